# SPDX-License-Identifier: Apache-2.0
"""Folders of finished runs that are damaged, or made to do harm."""

import io
import json
import shutil
import types
import zipfile

import damage
import h5py
import keras
import numpy as np
import picture_folders
import pytest
from helpers import small_backbone
from methods import KINDS, others_are_thorough
from small_runs import use_few_digits

from deepncm_tf import DeepNCM, flags, runs, teach
from deepncm_tf.classifiers import NAMES, DecayMean
from deepncm_tf.data import datasets
from deepncm_tf.distribution import strategies
from deepncm_tf.runs import config as run_config
from deepncm_tf.runs import finished_run, tasks, unknown_images
from deepncm_tf.teaching.lesson import Lesson
from deepncm_tf.utils.errors import UserError


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return damage.write_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def folder(whole, tmp_path, monkeypatch):
    use_few_digits(monkeypatch)
    return shutil.copytree(whole, tmp_path / "run")


def change_model(folder, change):
    """Changes the parts of model.keras, and leaves no checksum of it."""
    with zipfile.ZipFile(folder / "model.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    change(config, parts)
    if "config.json" in parts:
        parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    (folder / runs.SUMS).unlink()


def refused(folder, match):
    with pytest.raises(runs.RunError, match=match) as raised:
        finished_run.FinishedRun(folder)
    assert "\n" not in str(raised.value)
    assert str(folder) in str(raised.value)


def test_a_whole_run_is_opened(folder):
    run = finished_run.FinishedRun(folder)
    assert run.embed(run.splits["test"][0]).shape == (20, 6)
    assert run.config == json.loads((folder / "config.json").read_text())["flags"]


def test_flags_that_were_not_there_yet(folder):
    content = json.loads((folder / "config.json").read_text())
    for name in ("label", "validation_fraction", "augmentation"):
        del content["flags"][name]
    content["flags"]["flag_of_another_version"] = 1
    (folder / "config.json").write_text(json.dumps(content))
    config = run_config.read_config(folder)
    assert (config["label"], config["validation_fraction"]) == ("fine", 0.0)
    assert "flag_of_another_version" not in config


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "config.json has no flags such as ncm and dataset"),
        ('{"flags": []}', "has no flags"),
        ('{"flags": "ncm dataset"}', "has no flags"),
        ('{"flags": null}', "has no flags"),
        ('{"flags": {"ncm": "decay"}}', "has no flags"),
        ('{"flags": {"ncm": "dnc", "dataset": []}}', "--dataset must be one of"),
        ('{"flags": {"ncm": {}, "dataset": "digits"}}', "--ncm must be one of"),
        ('{"flags": {"ncm": null, "dataset": "digits"}}', "--ncm must be one of"),
        ('{"flags": {"ncm": "nca", "dataset": "digits", "seed": "1"}}', "--seed must be"),
        ('{"flags": {"ncm": "nca", "dataset": "digits", "decay": 0.9}}', "--decay belongs"),
        (
            '{"flags": {"ncm": "nca", "dataset": "digits", "validation_fraction": NaN}}',
            "--validation_fraction must be a number in",
        ),
        ("[" * 100000, "RecursionError"),
        ("\x80", "--model_dir must be the folder of a run"),
    ],
    ids=lambda text: text[:30],
)
def test_flags_that_are_none(folder, text, message):
    (folder / "config.json").write_text(text, "latin-1")
    refused(folder, message)


@pytest.mark.bad_input
def test_a_model_of_another_checksum(folder):
    data = bytearray((folder / "model.keras").read_bytes())
    data[-1] ^= 1
    (folder / "model.keras").write_bytes(data)
    refused(folder, r"model\.keras cannot be read: .*not that of SHA256SUMS")
    (folder / runs.SUMS).write_bytes(b"\xff")
    refused(folder, r"model\.keras cannot be read: UnicodeDecodeError")


@pytest.mark.bad_input
@pytest.mark.parametrize("part", ["config.json", "model.weights.h5", "metadata.json"])
def test_a_model_with_a_part_missing(folder, part):
    change_model(folder, lambda config, parts: parts.pop(part))
    if part == "metadata.json":
        finished_run.FinishedRun(folder)  # says when it was saved
    else:
        refused(folder, r"model\.keras cannot be read: KeyError")


def set_classes(config, parts):
    config["config"]["classifier"]["config"]["num_classes"] = 10**9


def set_embedding(config, parts):
    config["config"]["embedding_dim"] = 10**9


def set_units(config, parts):
    (dense,) = (
        layer
        for layer in config["config"]["backbone"]["config"]["layers"]
        if layer["class_name"] == "Dense"
    )
    dense["config"]["units"] = 10**6


def set_class(config, parts):
    config["config"]["classifier"] |= {"registered_name": None, "class_name": "Dense"}


def set_method(config, parts):
    config["config"]["classifier"] |= {
        "class_name": "OnlineMean",
        "registered_name": "deepncm_tf>OnlineMean",
    }


def set_model(config, parts):
    config |= {"registered_name": "Functional", "class_name": "Functional"}


def set_shape_bomb(config, parts):
    """A weight of 4 GiB that the file does not hold."""
    file = io.BytesIO(parts["model.weights.h5"])
    with h5py.File(file, "a") as weights:
        name = "backbone/layers/dense/vars/0"
        del weights[name]
        weights.create_dataset(name, (2**30,), "float32", chunks=(2**20,))
    parts["model.weights.h5"] = file.getvalue()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_classes, "the run has 10 classes. Received: num_classes=1000000000"),
        (set_embedding, "it claims 160000.* weights in"),
        (set_units, "it claims 410.* weights in"),
        (set_class, "it must have a deepncm_tf>DecayMean. Received: None"),
        (set_method, "it must have a deepncm_tf>DecayMean. Received: deepncm_tf>Online"),
        (set_model, "it must have a deepncm_tf>DeepNCM. Received: Functional"),
        (set_shape_bomb, "weights.h5 claims 42949.* bytes, and has"),
    ],
)
def test_a_model_that_is_none_of_the_run(folder, monkeypatch, change, message):
    change_model(folder, change)
    monkeypatch.setattr(keras.models, "load_model", never)
    refused(folder, message)


def never(*args, **kwargs):
    raise AssertionError("It was built")


@pytest.mark.bad_input
def test_a_lambda_in_a_run_is_refused(folder):
    called = keras.layers.Lambda(lambda x: x)
    layers = [keras.Input((32, 32, 3)), called, keras.layers.Flatten()]
    DeepNCM(keras.Sequential(layers), DecayMean(10)).save(folder / "model.keras")
    (folder / runs.SUMS).unlink()
    refused(folder, "Lambda|lambda")


@pytest.mark.parametrize("method", others_are_thorough(NAMES, KINDS))
def test_sizes_are_those_of_models(method, tmp_path):
    """A model of any method is not larger than its weights."""
    from deepncm_tf.runs import model_file
    from deepncm_tf.runs.plan import TrainingPlan

    config = flags.resolve({"ncm": method, "dataset": "digits"})
    arguments = flags.classifier_arguments(config) | {"num_classes": 10}
    plan = TrainingPlan.make(config, np.arange(50) % 10)
    arguments = NAMES[method].prepare(arguments, plan)
    unit = NAMES[method].wants_unit_features
    model = DeepNCM(small_backbone((32, 32, 3)), NAMES[method](**arguments), normalize=unit)
    model.save(tmp_path / "model.keras")
    model_file._check_archive(tmp_path / "model.keras", DeepNCM, config)


def test_features_are_float32_of_any_run():
    model = types.SimpleNamespace(embed=lambda x, **kwargs: np.zeros((2, 3), "float16"))
    run = types.SimpleNamespace(model=model, config=flags.resolve({"dataset": "digits"}))
    found = finished_run.FinishedRun.embed(run, np.zeros((2, *datasets.IMAGE_SHAPE)))
    assert found.dtype == np.float32


@pytest.mark.parametrize("n", [1, 130])
def test_replicas_take_the_same_features(n):
    """A last batch may leave replicas without an image."""
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(n, 8, 8, 3)).astype("uint8")

    def features():
        keras.utils.set_random_seed(0)
        model = DeepNCM(small_backbone((8, 8, 3)), DecayMean(3))
        return finished_run.embed(model, images, "standardized")

    expected = features()
    assert len(expected) == n
    with strategies.get_strategy("mirrored", 2).scope():
        np.testing.assert_allclose(features(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.thorough
@pytest.mark.bad_input
def test_a_thousand_damaged_files():
    rows = damage.damage()
    print(damage.table(rows))
    assert sum(row["damaged"] for row in rows) >= 1000
    assert all(row["refused"] > 0.3 * row["damaged"] for row in rows)


@pytest.mark.bad_input
def test_what_can_be_done_with_pictures_that_cannot_be_read(tmp_path, monkeypatch):
    """Only commands that have --on_bad_image name it; a finished run needs all pictures."""
    root = picture_folders.write(tmp_path / "pictures", {"red": 3, "green": 3})
    (root / "red" / "000.png").write_bytes(b"no picture")
    folder, skip = f"folder:{root}", ", remove them, or give --on_bad_image=skip"
    config = flags.resolve({"dataset": folder})
    monkeypatch.setattr(finished_run, "read_config", lambda _: config)
    for load, way_out in (
        (tasks.Classification(config).load, skip),
        (lambda: Lesson(teach.resolve(folder, {})), skip),
        (lambda: finished_run.FinishedRun(tmp_path / "run"), ""),
        (
            lambda: unknown_images.load(folder, {**config, "dataset": "digits"}, None),
            " or remove them",
        ),
    ):
        with pytest.raises(UserError, match=rf"000\.png\. Mend them{way_out}$"):
            load()
