# SPDX-License-Identifier: Apache-2.0
"""Whole runs on a few digits: their files, with many flags, and how they fail."""

import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from same_run import TIMES, metrics, summaries
from small_runs import config

from deepncm_tf import cifar_main, flags, runs
from deepncm_tf.data import datasets, pipeline
from deepncm_tf.models.finite import NotFiniteError
from deepncm_tf.runs import training

pytestmark = pytest.mark.usefixtures("few_digits")


def test_files(tmp_path, capsys):
    folder = tmp_path / "run"
    result = training.run(config(folder, validation_fraction=0.2, epochs_between_evals=2))
    out = capsys.readouterr().out
    assert "Finished: test accuracy" in out
    assert str(folder) in out

    stored = json.loads((folder / "config.json").read_text())
    assert stored["flags"] == config(
        folder, validation_fraction=0.2, epochs_between_evals=2
    )
    assert {"keras", "tensorflow", "numpy", "deepncm_tf", "commit"} <= set(
        stored["versions"]
    )

    entries = metrics(folder)
    assert [entry["epoch"] for entry in entries] == [1, 2, 3]
    assert [entry["step"] for entry in entries] == [3, 6, 9]
    train = {"loss", "accuracy", "rmd", "learning_rate", *TIMES}
    evaluation = {
        f"{split}_{name}"
        for split in ("val", "test")
        for name in ("loss", "accuracy", "rmd", "unseen")
    }
    for entry in entries:
        expected = evaluation if entry["epoch"] in (2, 3) else set()
        assert set(entry) == {"epoch", "step"} | train | expected
    np.testing.assert_allclose(
        [e["learning_rate"] for e in entries], [0.1, 0.01, 1e-4], rtol=1e-6
    )

    assert json.loads((folder / "result.json").read_text()) == result
    assert result["final_test_accuracy"] == entries[-1]["test_accuracy"]
    assert result["best_test_accuracy"] == max(e.get("test_accuracy", 0) for e in entries)

    model = keras.models.load_model(folder / "model.keras")
    images, labels = datasets.load("digits")["test"]
    images = keras.ops.convert_to_numpy(pipeline.standardize(images))
    accuracy = (model.predict(images, verbose=0).argmax(axis=-1) == labels).mean()
    np.testing.assert_allclose(accuracy, result["final_test_accuracy"], rtol=1e-6)

    scalars = summaries(folder)
    for entry in entries:
        np.testing.assert_allclose(scalars["train", "loss", entry["epoch"]], entry["loss"])
    np.testing.assert_allclose(scalars["test", "rmd", 3], entries[-1]["test_rmd"])


def test_max_train_steps_stops_inside_an_epoch(tmp_path, small_network, capsys):
    """The last epoch has as many steps as are trained, by which time is divided."""
    result = training.run(config(tmp_path / "run", max_train_steps=4))
    printed = capsys.readouterr().out
    assert re.findall(r"^(\d+/\d+) - ", printed, re.MULTILINE) == ["3/3", "1/1"]
    assert "Cut short by --max_train_steps: 4 of the 9 steps of --train_epochs\n" in printed
    note = (
        "Note: after 4 steps batch normalization's averages are still 66 % initial values"
    )
    assert note in printed
    assert (result["steps"], result["epochs"]) == (4, 2)
    assert "test_accuracy" in metrics(tmp_path / "run")[-1]
    assert metrics(tmp_path / "run")[-1]["learning_rate"] == pytest.approx(0.1)


@pytest.mark.bad_input
@pytest.mark.parametrize("every", [None, 1])
def test_images_that_are_not_finite_end_the_run(
    tmp_path, small_network, monkeypatch, every
):
    training_dataset = pipeline.training_dataset

    def poisoned(*args, **kwargs):
        def poison(step, batch):
            x, y = batch
            factor = tf.where(step == 4, float("inf"), 1.0)  # the second step of epoch 2
            return {**x, "image": x["image"] * factor}, y

        return training_dataset(*args, **kwargs).enumerate().map(poison)

    monkeypatch.setattr(pipeline, "training_dataset", poisoned)
    with pytest.raises(NotFiniteError, match="Not finite in step 5 of epoch 2: inputs"):
        training.run(config(tmp_path / "run", checkpoint_every_steps=every))
    assert [entry["epoch"] for entry in metrics(tmp_path / "run")] == [1]
    # The last checkpoint is of before the bad step, which a resumed run meets again.
    newest = max(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert newest == f"epoch-00001-batch-000000{every or 0}.npz"


@pytest.mark.parametrize(
    "values",
    [
        {"dtype": "bf16"},
        pytest.param({"dtype": "fp16"}, marks=pytest.mark.thorough),
        pytest.param({"embedding_dim": 10}, marks=pytest.mark.thorough),
        {"resnet_version": 1, "gradient_clip": 0.0},
        {"label": "coarse", "jit_compile": "off"},
        pytest.param(
            {"distribution_strategy": "mirrored", "num_devices": 2},
            marks=pytest.mark.thorough,
        ),
    ],
    ids=str,
)
def test_other_flags_run(tmp_path, small_network, values):
    result = training.run(config(tmp_path / "run", train_epochs=1, **values))
    assert 0 <= result["final_test_accuracy"] <= 1
    assert np.isfinite(metrics(tmp_path / "run")[-1]["loss"])
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (datasets.DatasetNotFoundError("no data"), "no data"),
        (runs.RunError("in use"), "in use"),
        (NotFiniteError(5, ["loss"], 2), "Not finite in step 5 of epoch 2: loss"),
        (OSError(28, "No space left on device", "/data"), "No space left on device: /data"),
    ],
)
def test_known_errors_are_one_line(tmp_path, monkeypatch, capsys, error, message):
    def fail(config):
        raise error

    monkeypatch.setattr(training, "run", fail)
    monkeypatch.setattr(flags, "given", lambda _: {"model_dir": str(tmp_path)})
    with pytest.raises(SystemExit) as status:
        cifar_main.main(["cifar_main"])
    assert status.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"cifar_main: {message}")
