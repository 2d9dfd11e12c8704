# SPDX-License-Identifier: Apache-2.0
"""Files of earlier versions are still read, and mean the same."""

import json
import pathlib
import shutil

import golden_runs
import keras
import numpy as np
import pytest
from helpers import GOLDEN

from deepncm_tf import DeepNCM, checkpoints, datasets, flags, pipeline, runs, training
from deepncm_tf.classifiers import NAMES

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
def test_a_checkpoint_is_restored(method, monkeypatch):
    monkeypatch.setattr(training, "cifar_resnet", golden_runs.network)
    config = flags.resolve(golden_runs.values(method))
    _, labels = golden_runs.load_few("digits", load=datasets.load)["train"]
    model = training.build_model(config, labels)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    model.optimizer.build(model.trainable_variables)
    kept = checkpoints.Checkpoints(
        SAVED / method / "checkpoints", model.variables + model.optimizer.variables
    )
    progress = kept.restore()
    assert (len(progress.history), progress.batches) == (2, 0)
    expected = keras.models.load_model(SAVED / method / "model.keras").get_weights()
    for actual, wanted in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)


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
