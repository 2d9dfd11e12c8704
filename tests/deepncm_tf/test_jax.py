# SPDX-License-Identifier: Apache-2.0
"""The classifiers' own tests on Keras's JAX backend, which never imports TensorFlow."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import pytest
from helpers import ON_JAX

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="this is the run on JAX itself"
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["golden", "conformance"])
def test_classifiers_on_jax(name):
    pytest.importorskip("jax")
    tests = pathlib.Path(__file__).parent / "classifiers" / f"test_{name}.py"
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--numprocesses=0", tests],
        env={**os.environ, **ON_JAX},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout[-3000:]


def test_tensorflow_is_not_imported():
    pytest.importorskip("jax")
    code = "import sys, deepncm_tf.classifiers; sys.exit('tensorflow' in sys.modules)"
    environment = {**os.environ, **ON_JAX}
    assert (
        subprocess.run(
            [sys.executable, "-c", code], env=environment, check=False
        ).returncode
        == 0
    )


@pytest.mark.thorough
def test_batches_spread_over_devices_by_data_parallel():
    pytest.importorskip("jax")
    root = pathlib.Path(__file__).parents[2]
    variables = {
        **ON_JAX,
        "JAX_ENABLE_X64": "1",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": str(root),
    }
    outcome = subprocess.run(
        [sys.executable, root / "tests" / "support" / "data_parallel.py"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr[-3000:]


WITHOUT = """
import sys
class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name in ("tensorflow", "tensorflow_datasets", "sklearn", "wrapt"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NotInstalled())
sys.argv = sys.argv[1:]
import runpy
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.thorough
def test_the_benchmark_needs_keras_jax_and_numpy_alone():
    pytest.importorskip("jax")
    script = pathlib.Path(__file__).parents[2] / "benchmarks" / "jax_training.py"
    options = ["--resnet_size=8", "--batch_size=8", "--steps=2", "--rounds=1"]
    options.append("--heads=online,nca")
    outcome = subprocess.run(
        [sys.executable, "-c", WITHOUT, script, *options],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    heads = [line.split("|")[1].strip() for line in outcome.stdout.splitlines()[-2:]]
    assert heads == ["online", "nca"]


@pytest.mark.thorough
def test_a_run_on_jax_is_resumed_where_it_was(tmp_path):
    """Two runs, one of them ended in its third step and started again."""
    pytest.importorskip("jax")
    code = (
        "from deepncm_tf import cifar_main as door\n"
        "from absl import app\n"
        "from deepncm_tf.runs import callbacks, checkpoints\n"
        "save = checkpoints.Checkpoints.save\n"
        "def killed(self, progress):\n"
        "    save(self, progress)\n"
        "    raise SystemExit(3)\n"
        "import sys\n"
        "if sys.argv.pop() == 'kill':\n"
        "    checkpoints.Checkpoints.save = killed\n"
        "app.run(door.main, flags_parser=door.parse)\n"
    )
    flags = ["--dataset=digits", "--ncm=decay", "--train_epochs=1", "--max_train_steps=6"]
    statuses = []
    for run, how in (("whole", "go"), ("parts", "kill"), ("parts", "go")):
        outcome = subprocess.run(
            [
                *(sys.executable, "-c", code, *flags, "--checkpoint_every_steps=3"),
                *(f"--model_dir={tmp_path / run}", how),
            ],
            env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=False,
        )
        statuses.append(outcome.returncode)
        assert outcome.returncode in (0, 3), outcome.stderr[-3000:]
    assert statuses == [0, 3, 0]
    results = [
        json.loads((tmp_path / run / "result.json").read_text())
        for run in ("whole", "parts")
    ]
    assert results[0]["steps"] == 6
    accuracies = {result["final_test_accuracy"] for result in results}
    assert len(accuracies) == 1


@pytest.mark.thorough
def test_a_run_on_jax_begins_with_another_whose_network_is_frozen_first(tmp_path):
    pytest.importorskip("jax")
    command = [sys.executable, "-m", "deepncm_tf.cifar_main", "--dataset=digits"]
    command += ["--ncm=decay", "--embedding_dim=4", "--batch_size=720", "--train_epochs=2"]
    frozen = [f"--init_from={tmp_path / 'first'}", "--freeze", "--unfreeze_after=1"]
    for run, flags in (("first", []), ("second", frozen)):
        outcome = subprocess.run(
            [*command, *flags, f"--model_dir={tmp_path / run}"],
            env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert outcome.returncode == 0, outcome.stderr[-3000:]
    assert "Before training: test accuracy" in outcome.stdout
