# SPDX-License-Identifier: Apache-2.0
"""The flags of backbones and of folders of pictures: defaults, one run by one name."""

import os

import picture_folders
import pytest

from deepncm_tf import flags
from deepncm_tf.data.folders import FolderError
from deepncm_tf.runs.config import flags_identity


@pytest.fixture
def pictures(tmp_path):
    return picture_folders.write(tmp_path / "my pictures", {"a": 2, "b": 2, "c": 2})


@pytest.mark.parametrize(
    ("values", "size", "scaling"),
    [
        ({}, 32, "standardized"),
        ({"image_size": 64}, 64, "standardized"),
        ({"backbone": "resnet20"}, 32, "standardized"),
        ({"backbone": "resnet18"}, 224, "pixels"),
        ({"backbone": "keras:MobileNetV2", "image_size": 96}, 96, "pixels"),
    ],
)
def test_the_size_and_values_of_images(values, size, scaling):
    config = flags.resolve(values)
    assert (flags.image_size(config), flags.scaling(config)) == (size, scaling)


def test_a_backbone_takes_the_place_of_the_resnet():
    assert flags.resolve({})["resnet_size"] == 32
    config = flags.resolve({"backbone": "resnet20", "resnet_version": 1})
    assert "resnet_size" not in config
    assert config["resnet_version"] == 1
    values = {name: value for name, value in config.items() if value is not None}
    assert flags.resolve(values) == config  # as a finished run is read


def test_the_classes_of_a_folder(pictures):
    config = flags.resolve({"dataset": f"folder:{pictures}"})
    assert flags.num_classes(config) == 3
    assert (config["batch_size"], config["resnet_size"]) == (32, 32)
    with pytest.raises(flags.FlagError, match="needs a dataset with superclasses"):
        flags.resolve({"dataset": f"folder:{pictures}", "label": "coarse"})


def test_a_folder_is_looked_for_when_its_classes_are():
    """A run's flags can be read where its images are no more."""
    config = flags.resolve({"dataset": "folder:/nowhere"})
    assert flags.run_name(flags.identity(config)) == flags.run_name(config)
    with pytest.raises(FolderError, match="Received: /nowhere"):
        flags.num_classes(config)


def test_one_folder_is_one_run(pictures, monkeypatch):
    whole = flags.resolve({"dataset": f"folder:{pictures}"})
    monkeypatch.chdir(pictures.parent)
    for path in ("my pictures", "./my pictures/", f"{pictures}/../my pictures"):
        assert flags.resolve({"dataset": f"folder:{path}"}) == whole
    name = flags.run_name(whole)
    assert name.startswith("my-pictures-")
    assert set("/ :") & set(name) == set()
    assert whole["model_dir"] == os.path.join("runs", name)
    other = picture_folders.write(pictures.parent / "b" / "my pictures", {"a": 1, "b": 1})
    assert flags.run_name(flags.resolve({"dataset": f"folder:{other}"})) != name


def test_names_of_runs_with_backbones(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = [
        {},
        {"backbone": "resnet20"},
        {"backbone": "keras:MobileNetV2"},
        {"backbone": "keras:MobileNetV2", "weights": "pretrained"},
        {"backbone": "keras:MobileNetV2", "weights": "pretrained", "freeze": True},
        {"backbone": "keras:MobileNetV2", "weights": "a/w.h5"},
        {"backbone": "keras:MobileNetV2", "weights": "b/w.h5"},
        {"image_size": 64},
    ]
    names = [flags.run_name(flags.resolve(values)) for values in given]
    assert len(set(names)) == len(names)
    assert all("/" not in name and ":" not in name for name in names)
    assert names[0] == "cifar10_decay_decay=0.9_learning_rate=0.1_seed=0"
    assert "_backbone=resnet20_" in names[1]
    again = {"backbone": "keras:MobileNetV2", "weights": "./b/../a//w.h5"}
    assert flags.run_name(flags.resolve(again)) == names[5]


@pytest.mark.parametrize("name", ["weights", "init_from"])
def test_what_a_run_begins_with_is_the_same_wherever_the_folder_is(
    name, monkeypatch, tmp_path
):
    values = {"weights": {"backbone": "resnet8"}, "init_from": {"label": "coarse"}}[name]
    found = []
    for folder in (tmp_path / "one", tmp_path / "other"):
        folder.mkdir()
        monkeypatch.chdir(folder)
        config = flags.resolve({"dataset": "cifar100", **values, name: "runs/x/model"})
        found.append(flags.identity(config))
    assert found[0] == found[1]
    assert found[0][name] == "runs/x/model"


def test_a_file_that_is_called_pretrained():
    given = {"backbone": "keras:MobileNetV2", "weights": "./pretrained"}
    assert flags.resolve(given)["weights"] == "./pretrained"


def test_runs_that_were_begun_before_go_on():
    config = flags.resolve({})
    new = ("backbone", "weights", "freeze", "image_size", "on_bad_image")
    old = {name: value for name, value in config.items() if name not in new}
    assert flags_identity(old) == flags_identity(config)
