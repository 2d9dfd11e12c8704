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
