# SPDX-License-Identifier: Apache-2.0
"""Images of no class that a run learnt: of which classes they are, however named."""

import numpy as np
import picture_folders
import pytest
from small_runs import config

from deepncm_tf.data import datasets
from deepncm_tf.runs import images as images_of_run
from deepncm_tf.runs import unknown_images


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder beside a link to it, both in the folder where the commands are given."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("pictures")
    return picture_folders.write(tmp_path / "pictures", {"a": 10, "b": 15, "c": 20})


SPELLINGS = ("pictures", "./pictures/", "{}/pictures/../pictures", "link")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_folder_is_the_run_s_however_it_is_spelled(tmp_path, pictures, spelling):
    name = f"folder:{spelling.format(tmp_path)}"
    known = config("run", dataset="folder:pictures", known_classes="0-1")
    unknown_images.check(name, known)
    images = unknown_images.load(name, known, None)
    assert {path.parent.name for path in images.paths} == {"c"}
    for values in ({}, {"dataset": "digits", "test_dataset": "folder:pictures"}):
        whole = config("run", **{"dataset": "folder:pictures", **values})
        with pytest.raises(ValueError, match=r"--unknown must be another dataset"):
            unknown_images.check(name, whole)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("name", "known"),
    [("folder:pictures", "0-2"), ("digits", "0-9"), ("tfds:cifar10", "0-9")],
)
def test_a_run_that_knows_all_classes_leaves_none(pictures, name, known):
    run = config("run", dataset=name.removeprefix("tfds:"), known_classes=known)
    message = f"--known_classes leaves none .* --unknown={name}.* --known_classes={known}$"
    with pytest.raises(ValueError, match=message):
        unknown_images.check(name, run)


@pytest.mark.parametrize("name", ["folder:pictures", "folder:other", "digits"])
def test_they_are_made_as_the_run_s_own(tmp_path, pictures, name):
    picture_folders.write(tmp_path / "other", {"x": 10, "y": 10})
    values = {"image_size": 16, "middle": 0.5}
    run = config("run", dataset="folder:pictures", known_classes="0-1", **values)
    found = unknown_images.load(name, run, None)
    alike = config("alike", dataset=name, **values)
    if name == "folder:other":
        expected, _ = datasets.load_test(name, **values)
    else:
        expected, labels = images_of_run.load(alike)["test"]
    if name == "folder:pictures":
        expected = expected.take(np.flatnonzero(labels == 2))
    np.testing.assert_array_equal(found[:4], expected[:4])
    assert len(found) == len(expected)


def test_other_classes_are_of_the_dataset_that_tests_are(tmp_path, pictures):
    picture_folders.write(tmp_path / "other", {"a": 2, "b": 3, "c": 4})
    values = {"test_dataset": "folder:other", "known_classes": "0-1"}
    run = config("run", dataset="folder:pictures", validation_fraction=0.2, **values)
    for name in ("folder:pictures", "folder:other"):
        images = unknown_images.load(name, run, None)
        assert [path.parent for path in images.paths] == [tmp_path / "other" / "c"] * 4


def test_all_pictures_of_a_folder_without_classes(tmp_path, pictures):
    picture_folders.write_class(tmp_path / "flat", 0, 3)
    picture_folders.write_class(tmp_path / "flat" / "within", 1, 2)
    run = config("run", dataset="folder:pictures")
    unknown_images.check("folder:flat", run)
    assert len(unknown_images.load("folder:flat", run, None)) == 5
    picture_folders.write_class(tmp_path / "odd" / "val" / "n1", 0, 3)
    assert len(unknown_images.load("folder:odd", run, None)) == 3
    picture_folders.write(tmp_path / "split" / "train", {"a": 2, "b": 3})
    picture_folders.write(tmp_path / "split" / "test", {"a": 2, "z": 4})
    assert len(unknown_images.load("folder:split", run, None)) == 6


@pytest.mark.bad_input
def test_a_folder_without_pictures_or_with_one_that_cannot_be_read(tmp_path, pictures):
    run = config("run", dataset="folder:pictures")
    (tmp_path / "flat").mkdir()
    with pytest.raises(ValueError, match=r"must have a picture .* Received: .*flat, which"):
        unknown_images.load("folder:flat", run, None)
    (tmp_path / "flat" / "x.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"1 of 1 pictures .* Mend them or remove them$"):
        unknown_images.load("folder:flat", run, None)
    skips = {**run, "on_bad_image": "skip"}
    with pytest.raises(ValueError, match=r"must have a picture .* Received: .*flat, which"):
        unknown_images.load("folder:flat", skips, None)


@pytest.mark.bad_input
def test_other_classes_without_a_test_image(tmp_path, pictures):
    picture_folders.write_class(pictures / "d", 0, 1)  # a picture that is for training
    run = config("run", dataset="folder:pictures", known_classes="0-2")
    message = "--unknown must have test images .* Received: --unknown=folder:pictures,"
    with pytest.raises(ValueError, match=message):
        unknown_images.load("folder:pictures", run, None)
