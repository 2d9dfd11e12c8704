# SPDX-License-Identifier: Apache-2.0
"""Runs on folders of pictures, and with backbones by name."""

import json
import re

import numpy as np
import picture_folders
import pytest
from helpers import to_numpy
from interrupting import InterruptedRunError, interrupt
from same_run import assert_same_run, metrics
from small_runs import config

from deepncm_tf import backbones, cifar_main, evaluate, explain, flags, runs
from deepncm_tf.data import folders
from deepncm_tf.runs import images as images_of_run
from deepncm_tf.runs import training
from deepncm_tf.runs.finished_run import FinishedRun
from deepncm_tf.utils.errors import UserError


@pytest.fixture
def pictures(tmp_path):
    return picture_folders.write(
        tmp_path / "pictures", {"red": 30, "green": 20, "blue": 25}
    )


def folder_config(folder, pictures, **values):
    values = {
        "dataset": f"folder:{pictures}",
        "batch_size": 20,
        "train_epochs": 2,
        **values,
    }
    return config(folder, **values)


def test_a_folder_becomes_a_classifier(tmp_path, pictures, small_network, capsys):
    result = training.run(folder_config(tmp_path / "run", pictures, train_epochs=4))
    assert result["final_test_accuracy"] >= 0.9
    # 4 x 3 x 3 x 3 of the convolution, its bias and scale; 32 * 32 * 4 * 6 + 6.
    features = 108 + 4 + 8 + 32 * 32 * 4 * 6 + 6
    sizes = f"{features:,} of the features, {features + 7 * 3:,} with a softmax head"
    assert sizes in capsys.readouterr().out
    run = FinishedRun(tmp_path / "run")
    assert run.class_names == ["blue", "green", "red"]
    images, labels = run.splits["test"]
    logits = run.model.classifier(run.embed(images))
    accuracy = (to_numpy(logits).argmax(axis=-1) == labels).mean()
    np.testing.assert_allclose(accuracy, result["final_test_accuracy"], atol=1e-6)
    images.paths[3].unlink()
    for features in (run.embed, run.backbone_features):
        with pytest.raises(ValueError, match=f"Received: {images.paths[3]}"):
            features(images)


def test_the_other_commands_read_such_a_run(tmp_path, pictures, small_network):
    training.run(folder_config(tmp_path / "run", pictures, train_epochs=4))
    figures = evaluate.evaluate(str(tmp_path / "run"), neighbours=(3,))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    np.testing.assert_allclose(figures["accuracy"], result["final_test_accuracy"])
    assert figures["knn_3_0.05"] >= 0.9
    images = [pictures / "red" / "000.png", pictures / "blue" / "001.jpg"]
    explain.write(str(tmp_path / "run"), tmp_path / "report", images)
    report = json.loads((tmp_path / "report" / "explanations.json").read_text())
    assert [query["predicted"] for query in report["queries"]] == ["red", "blue"]


@pytest.mark.thorough
@pytest.mark.parametrize("where", ["between", "batch"])
def test_a_resumed_run_ends_where_it_would_have(
    tmp_path, pictures, small_network, monkeypatch, where
):
    values = {"ncm": "dnc", "num_sub_centroids": "2", "validation_fraction": 0.2}
    training.run(folder_config(tmp_path / "whole", pictures, **values))
    with monkeypatch.context() as patch:
        interrupt(patch, 1, where)
        with pytest.raises(InterruptedRunError):
            training.run(folder_config(tmp_path / "resumed", pictures, **values))
    training.run(folder_config(tmp_path / "resumed", pictures, **values))
    assert_same_run(tmp_path / "whole", tmp_path / "resumed")
    assert "val_accuracy" in metrics(tmp_path / "whole")[-1]


@pytest.mark.thorough
def test_two_devices(tmp_path, pictures, small_network):
    values = {"distribution_strategy": "mirrored", "num_devices": 2}
    training.run(folder_config(tmp_path / "two", pictures, **values))
    training.run(folder_config(tmp_path / "one", pictures))
    one, two = (metrics(tmp_path / name)[-1]["loss"] for name in ("one", "two"))
    np.testing.assert_allclose(two, one, rtol=1e-3)


@pytest.fixture
def weights(tmp_path):
    backbone = backbones.get("keras:MobileNetV2", (32, 32, 3))
    backbone.save_weights(tmp_path / "mobile.weights.h5")
    return backbone, str(tmp_path / "mobile.weights.h5")


@pytest.mark.slow
@pytest.mark.parametrize("freeze", [True, pytest.param(False, marks=pytest.mark.thorough)])
def test_a_backbone_with_weights(tmp_path, pictures, weights, freeze):
    backbone, path = weights
    training.run(
        folder_config(
            tmp_path / "run",
            pictures,
            backbone="keras:MobileNetV2",
            image_size=32,
            weights=path,
            freeze=freeze,
            embedding_dim=4,
            train_epochs=1,
        )
    )
    run = FinishedRun(tmp_path / "run")
    pairs = zip(run.model.backbone.get_weights(), backbone.get_weights(), strict=True)
    unchanged = [np.array_equal(after, before) for after, before in pairs]
    assert all(unchanged) == freeze
    images = np.random.default_rng(0).integers(256, size=(2, 32, 32, 3)).astype("uint8")
    assert flags.scaling(run.config) == "pixels"  # the network scales them
    assert run.embed(images).shape == (2, 4)
    assert metrics(tmp_path / "run")[-1]["step"] == 3


def test_images_in_memory_in_another_size(tmp_path, few_digits, small_network):
    training.run(config(tmp_path / "run", image_size=16, train_epochs=1))
    run = FinishedRun(tmp_path / "run")
    assert run.model.backbone.input_shape == (None, 16, 16, 3)
    assert run.embed(run.splits["test"][0]).shape == (20, 6)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"backbone": "keras:VGG16", "image_size": 16}, r"images of \(16, 16, 3\)"),
        ({"backbone": "keras:ResNet5"}, "Received: name='keras:ResNet5'"),
        ({"backbone": "resnet8", "weights": "/no/such.h5"}, "/no/such.h5"),
    ],
)
def test_backbones_that_cannot_be_built(tmp_path, pictures, values, message):
    with pytest.raises(runs.RunError, match=message):
        training.run(folder_config(tmp_path / "run", pictures, **values))


@pytest.mark.bad_input
def test_weights_of_another_network(tmp_path, pictures, weights):
    values = {"backbone": "resnet8", "weights": weights[1]}
    with pytest.raises(runs.RunError, match="must be a file of weights of resnet8"):
        training.run(folder_config(tmp_path / "run", pictures, **values))


@pytest.mark.bad_input
@pytest.mark.parametrize("on_bad_image", ["fail", "skip"])
def test_a_damaged_picture(tmp_path, pictures, small_network, on_bad_image, capsys):
    bad = pictures / "red" / "003.bmp"
    bad.write_bytes(b"no picture")
    values = folder_config(tmp_path / "run", pictures, on_bad_image=on_bad_image)
    if on_bad_image == "fail":
        with pytest.raises(runs.RunError, match=f"1 of 75 pictures .*{bad}"):
            training.run(values)
        assert not (tmp_path / "run").exists()
        return
    training.run(values)
    assert f"Received: {bad}" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["epochs"] == 2


@pytest.mark.bad_input
def test_a_damaged_picture_of_another_test_dataset(tmp_path, capsys):
    folder = picture_folders.write(tmp_path / "test", {str(n): 2 for n in range(10)})
    bad = folder / "3" / "000.png"
    bad.write_bytes(b"no picture")
    given = {"dataset": "digits", "test_dataset": f"folder:{folder}"}
    with pytest.raises(UserError, match=r"Mend them, or give up$"):
        images_of_run.load(flags.resolve(given), way_out=", or give up")
    splits = images_of_run.load(flags.resolve({**given, "on_bad_image": "skip"}))
    assert len(splits["test"][1]) == 19
    assert f"Received: {bad}" in capsys.readouterr().err


@pytest.mark.bad_input
def test_a_picture_that_goes_during_the_run(tmp_path, pictures, small_network, monkeypatch):
    load = folders.load

    def load_and_remove(*args, **kwargs):
        splits = load(*args, **kwargs)
        splits["train"][0].paths[5].unlink()
        return splits

    monkeypatch.setattr(folders, "load", load_and_remove)
    with pytest.raises(runs.RunError, match=r"gone or has changed\. .*Received: "):
        training.run(folder_config(tmp_path / "run", pictures))


@pytest.fixture
def other_test(tmp_path):
    return picture_folders.write(tmp_path / "other", {"red": 3, "green": 2, "blue": 2})


def another_picture(pictures, other_test):
    (pictures / "blue" / "again.png").write_bytes((pictures / "blue/000.png").read_bytes())


def another_name(pictures, other_test):
    (pictures / "red" / "000.png").rename(pictures / "red" / "zzz.png")


def another_for_tests(pictures, other_test):
    (other_test / "red" / "000.png").unlink()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (another_picture, "folder:PATH (train: 60 then, 61 now; test: 15 then, 15 now)"),
        (another_name, "folder:PATH (train: 60 then, 60 now; test: 15 then, 15 now)"),
        (another_for_tests, "folder:PATH and folder:PATH (test: 7 then, 6 now)"),
    ],
)
def test_other_pictures_than_the_run_was_begun_with(
    tmp_path, pictures, other_test, small_network, monkeypatch, change, message
):
    values = {"train_epochs": 1}
    if change is another_for_tests:
        values["test_dataset"] = f"folder:{other_test}"
    begun = folder_config(tmp_path / "run", pictures, **values)
    with monkeypatch.context() as patch:
        patch.setattr(training, "_train", lambda *args: 1 / 0)  # it ends before a step
        with pytest.raises(ZeroDivisionError):
            training.run(begun)
    (tmp_path / "run" / "model.keras").touch()  # as if it were finished
    with pytest.raises(runs.RunError, match=r"model\.keras cannot be read"):
        FinishedRun(tmp_path / "run")
    change(pictures, other_test)
    message = f"begun with other pictures in {re.escape(message).replace('PATH', '.*')}"
    with pytest.raises(runs.RunError, match=rf"{message}\. Put those back\.$"):
        FinishedRun(tmp_path / "run")
    with pytest.raises(runs.RunError, match=f"{message}.* or give --overwrite to start"):
        training.run(begun)
    record = tmp_path / "run" / "pictures.txt"
    record.write_text("train\n")
    with pytest.raises(runs.RunError, match=f"{record} is damaged"):
        FinishedRun(tmp_path / "run")
    record.unlink()  # as of a version that recorded none
    with pytest.raises(runs.RunError, match=r"model\.keras cannot be read"):
        FinishedRun(tmp_path / "run")
    training.run({**begun, "overwrite": True})
    FinishedRun(tmp_path / "run")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"validation_fraction": 0.001},
            "--validation_fraction must leave each of 3 classes .*"
            "Received: --validation_fraction=0.001",
        ),
        (
            {"known_classes": "1,7"},
            "--known_classes must be of the classes 0-2 of --dataset=folder:.*"
            "Received: --known_classes=1,7",
        ),
    ],
)
def test_flags_that_do_not_fit_the_folder(tmp_path, pictures, values, message):
    with pytest.raises(runs.RunError, match=f"^{message}"):
        training.run(folder_config(tmp_path / "run", pictures, **values))
    assert not (tmp_path / "run").exists()


def test_errors_are_one_line(tmp_path, monkeypatch, capsys):
    picture_folders.write_class(tmp_path / "p" / "only", 0, 2)
    given = {"dataset": f"folder:{tmp_path / 'p'}"}
    monkeypatch.setattr(cifar_main.flags, "given", lambda _: given)
    with pytest.raises(SystemExit) as status:
        cifar_main.main(["cifar_main"])
    assert status.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cifar_main: A folder of pictures must have folders of two")
