# SPDX-License-Identifier: Apache-2.0
"""imagenet_main: the recipe of ImageNet, on a folder and with a small network."""

import copy
import json

import keras
import numpy as np
import picture_folders
import pytest
from interrupting import InterruptedRunError, interrupt
from methods import others_are_thorough
from same_run import assert_same_run

from deepncm_tf import DeepNCM, cifar_main, flags, imagenet_main, runs
from deepncm_tf.backbones import registry
from deepncm_tf.classifiers import Softmax
from deepncm_tf.data import tfds_images
from deepncm_tf.runs import training
from deepncm_tf.runs.finished_run import FinishedRun
from deepncm_tf.runs.plan import RECIPES, TrainingPlan
from official_resnet import BatchNormalization


@pytest.fixture
def pictures(tmp_path):
    return picture_folders.write(tmp_path / "p", {"a": 20, "b": 15, "c": 15})


@pytest.fixture(autouse=True)
def small_resnet(monkeypatch):
    def network(depth, input_shape, **kwargs):
        return keras.Sequential(
            [
                keras.Input(input_shape),
                keras.layers.Rescaling(1 / 255),
                keras.layers.Conv2D(4, 3, strides=4),
                BatchNormalization(),
                keras.layers.GlobalAveragePooling2D(),
            ]
        )

    monkeypatch.setattr(registry, "_imagenet_resnet", network)


def resolved(monkeypatch, *arguments):
    """The config of a command line."""
    flag_values, found = copy.deepcopy(imagenet_main.FLAGS), []
    flag_values(["imagenet_main", *map(str, arguments)])
    monkeypatch.setattr(imagenet_main, "FLAGS", flag_values)
    monkeypatch.setattr(
        imagenet_main.command_line, "train", lambda _, resolve: found.append(resolve())
    )
    imagenet_main.main(["imagenet_main"])
    return found[0]


def test_defaults(monkeypatch):
    config = resolved(monkeypatch)
    assert (config["dataset"], config["backbone"]) == ("tfds:imagenet2012", "resnet50")
    assert (flags.image_size(config), flags.num_classes(config)) == (224, 1000)
    assert (config["train_epochs"], config["weight_decay"]) == (100, 1e-4)
    for name, value in imagenet_main.DEFAULTS.items():
        assert config[name] == value
    given = {**imagenet_main.DEFAULTS, "ncm": "decay"}
    assert flags.run_name(flags.resolve(given)) == flags.run_name(config)


def test_rates():
    """0.1 for 256 images; a tenth after 30, 60, 80 and 90 of 100 epochs."""
    values = {**imagenet_main.DEFAULTS, "batch_size": 64, "train_epochs": 10}
    plan = TrainingPlan.make(flags.resolve(values), np.zeros(640, "int32"))
    rates = [float(plan.learning_rate(step)) for step in (0, 30, 31, 61, 81, 91)]
    np.testing.assert_allclose(rates, 0.025 * 10.0 ** -np.array([0, 0, 1, 2, 3, 4]), 1e-5)
    other = RECIPES["snca_imagenet"].learning_rate(0.1, 130, 64)
    assert float(other(0)) == pytest.approx(0.1)
    assert other.boundaries == [40, 80, 120]


def test_weight_decay_leaves_batch_normalization_out():
    def penalty(**kwargs):
        keras.utils.set_random_seed(0)
        backbone = keras.Sequential(
            [
                keras.Input((4, 4, 3)),
                keras.layers.Conv2D(2, 3),
                BatchNormalization(),
                keras.layers.BatchNormalization(),
                keras.layers.GlobalAveragePooling2D(),
            ]
        )
        model = DeepNCM(backbone, Softmax(2), l2=0.5, **kwargs)
        model.compile("sgd")
        x, y = np.ones((2, 4, 4, 3), "float32"), np.zeros(2, "int32")
        with_decay = model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
        model.l2 = 0.0
        model.make_test_function(force=True)
        squares = sum(float((v.numpy() ** 2).sum()) for v in model.trainable_variables)
        without = model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
        return (with_decay - without) / 0.25, squares

    found, squares = penalty()
    assert found == pytest.approx(squares, rel=1e-4)
    found, squares = penalty(decay_batch_norm=False)
    assert found == pytest.approx(squares - 4, rel=1e-4)  # scales of 1, shifts of 0


def test_a_saved_model_knows_its_decay(tmp_path):
    backbone = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    DeepNCM(backbone, Softmax(2), decay_batch_norm=False).save(tmp_path / "m.keras")
    assert keras.models.load_model(tmp_path / "m.keras").decay_batch_norm is False


@pytest.mark.parametrize("ncm", others_are_thorough(list(flags.METHODS)[:6], ["dnc"]))
def test_a_folder_end_to_end(monkeypatch, tmp_path, pictures, ncm):
    """Stopped in its epoch and resumed, each method ends where it would have."""
    arguments = [
        f"--ncm={ncm}",
        f"--dataset=folder:{pictures}",
        *("--image_size=16", "--batch_size=16", "--train_epochs=1"),
        "--checkpoint_every_steps=1",
    ]
    whole = resolved(monkeypatch, *arguments, f"--model_dir={tmp_path / 'whole'}")
    cut = resolved(monkeypatch, *arguments, f"--model_dir={tmp_path / 'cut'}")
    training.run(whole)
    with monkeypatch.context() as patch:
        interrupt(patch, 0, "batch")
        with pytest.raises(InterruptedRunError):
            training.run(cut)
    training.run(cut)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    run = FinishedRun(tmp_path / "whole")
    assert run.splits["test"][0].middle == 0.875
    assert json.loads((tmp_path / "whole" / "result.json").read_text())["steps"] == 3


@pytest.mark.bad_input
def test_archives_that_are_not_there(monkeypatch, tmp_path, capsys):
    for module, arguments in (
        (imagenet_main, []),
        (cifar_main, ["--dataset=tfds:imagenet2012", "--backbone=resnet18"]),
    ):
        values = dict(a.lstrip("-").split("=") for a in arguments)
        given = {**getattr(module, "DEFAULTS", {}), **values}
        folder = {"data_dir": str(tmp_path), "model_dir": str(tmp_path / "run")}
        monkeypatch.setattr(module.flags, "given", lambda _, g=given, f=folder: {**g, **f})
        with pytest.raises(SystemExit) as ended:
            module.main(["program"])
        assert ended.value.code == 1
        (line,) = capsys.readouterr().err.splitlines()
        for name in tfds_images.ARCHIVES:
            assert name in line
        assert str(tmp_path / "downloads" / "manual") in line
        assert f"tfds.builder('imagenet2012', data_dir='{tmp_path}')" in line
    assert not (tmp_path / "run").exists()


def test_other_test_images(tmp_path, pictures, small_network):
    """Those of a folder of the same classes, all of them; others are refused."""
    others = picture_folders.write(tmp_path / "q", {"a": 2, "b": 3, "c": 1})
    values = {"dataset": f"folder:{pictures}", "train_epochs": 1, "ncm": "online"}
    values |= {"model_dir": str(tmp_path / "run"), "test_dataset": f"folder:{others}"}
    training.run(flags.resolve(values))
    run = FinishedRun(tmp_path / "run")
    assert np.bincount(run.splits["test"][1]).tolist() == [2, 3, 1]
    assert len(run.splits["train"][1]) == 40
    fewer = picture_folders.write(tmp_path / "r", {"a": 2, "b": 3})
    values |= {"test_dataset": f"folder:{fewer}", "model_dir": str(tmp_path / "other")}
    with pytest.raises(runs.RunError, match="must have the 3 classes of --dataset=folder:"):
        training.run(flags.resolve(values))
