# SPDX-License-Identifier: Apache-2.0
"""Files of earlier versions are still read, and mean the same."""

import functools
import json
import pathlib
import shutil

import golden_runs
import keras
import numpy as np
import pytest
from helpers import GOLDEN

from deepncm_tf import DeepNCM, flags, runs
from deepncm_tf.classifiers import NAMES
from deepncm_tf.data import datasets, pipeline
from deepncm_tf.runs import training

SAVED = GOLDEN / "saved"
every_method = pytest.mark.parametrize("method", sorted(NAMES))


def stored_flags(method):
    return json.loads((SAVED / method / "config.json").read_text())["flags"]


@every_method
def test_a_saved_model_predicts_as_it_did(method):
    model = keras.models.load_model(SAVED / method / "model.keras")
    assert isinstance(model, DeepNCM)
    images, _ = golden_runs.load_few("digits", load=datasets.load)["test"]
    images = pipeline.standardize(images[: golden_runs.QUERIES])
    expected = np.load(SAVED / method / "logits.npy")
    np.testing.assert_allclose(
        model.predict(images, verbose=0), expected, rtol=1e-4, atol=1e-4
    )


@every_method
def test_a_run_goes_on_from_its_checkpoint(method, monkeypatch, tmp_path, capsys):
    """Both epochs are done: what is written again is what the checkpoint holds."""
    load = datasets.load
    load_few = functools.partial(golden_runs.load_few, load=load)
    monkeypatch.setattr(datasets, "load", load_few)
    monkeypatch.setattr(training, "cifar_resnet", golden_runs.network)
    folder = shutil.copytree(SAVED / method, tmp_path / method)
    for name in ("result.json", "model.keras", "logits.npy"):
        (folder / name).unlink()
    training.run(flags.resolve({**golden_runs.values(method), "model_dir": str(folder)}))
    assert "Going on after 2 of 2 epochs and 0 steps" in capsys.readouterr().out
    metrics, expected = (path / "metrics.jsonl" for path in (folder, SAVED / method))
    assert metrics.read_bytes() == expected.read_bytes()
    result, expected = (
        json.loads((path / "result.json").read_text()) for path in (folder, SAVED / method)
    )
    # There are flags now that there were not then.
    expected["identity"] = runs.flags_identity(expected["identity"])
    assert result == expected
    actual, expected = (
        keras.models.load_model(path / method / "model.keras").get_weights()
        for path in (tmp_path, SAVED)
    )
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@every_method
def test_a_run_is_known_to_be_finished(method, tmp_path):
    folder = shutil.copytree(SAVED / method, tmp_path / method)
    config = flags.resolve({**golden_runs.values(method), "model_dir": str(folder)})
    result = runs.RunFolder(config).result()
    assert result == json.loads((SAVED / method / "result.json").read_text())
    assert runs.flags_identity(stored_flags(method)) == flags.identity(config)


def test_every_method_has_a_saved_run():
    assert {path.name for path in pathlib.Path(SAVED).iterdir() if path.is_dir()} == set(
        NAMES
    )
