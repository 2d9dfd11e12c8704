# SPDX-License-Identifier: Apache-2.0
"""The classifiers' own tests on Keras's JAX backend, which never imports TensorFlow."""

import os
import pathlib
import subprocess
import sys

import keras
import pytest

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="this is the run on JAX itself"
)


@pytest.mark.slow
def test_classifiers_on_jax():
    pytest.importorskip("jax")
    folder = pathlib.Path(__file__).parent / "classifiers"
    tests = [str(folder / f"test_{name}.py") for name in ("golden", "conformance")]
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--numprocesses=0", *tests],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout[-3000:]


def test_tensorflow_is_not_imported():
    pytest.importorskip("jax")
    code = "import sys, deepncm_tf.classifiers; sys.exit('tensorflow' in sys.modules)"
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    assert (
        subprocess.run(
            [sys.executable, "-c", code], env=environment, check=False
        ).returncode
        == 0
    )


REFUSED = """
import keras, numpy as np
import deepncm_tf
from deepncm_tf.classifiers import OnlineMean

backbone = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()])
model = deepncm_tf.DeepNCM(backbone, OnlineMean(3))
model.compile("sgd", metrics=["accuracy"])
x, y = np.zeros((4, 4, 4, 3), "float32"), np.zeros(4, "int32")
before = model.predict(x, verbose=0)
for name in ("fit", "evaluate", "train_on_batch", "test_on_batch"):
    try:
        getattr(model, name)(x, y)
    except NotImplementedError as error:
        assert str(error).endswith("Received: KERAS_BACKEND='jax'"), error
    else:
        raise AssertionError(name)
np.testing.assert_array_equal(model.predict(x, verbose=0), before)
assert model.embed(x, verbose=0).shape == (4, 48)
"""


@pytest.mark.slow
@pytest.mark.bad_input
def test_training_is_refused_in_a_sentence_and_the_model_stays_whole():
    pytest.importorskip("jax")
    outcome = subprocess.run(
        [sys.executable, "-c", REFUSED],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr[-3000:]
