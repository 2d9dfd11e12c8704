# SPDX-License-Identifier: Apache-2.0
"""A method costs one file, one line of the registry and one row of flags."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
CLASSIFIER = '''
"""The first sample of each class stands for it."""

import keras
from keras import ops

from deepncm_tf.classifiers.classifier import Classifier


@keras.saving.register_keras_serializable(package="deepncm_tf")
class FirstSample(Classifier):
    def __init__(self, num_classes, scale=1.0, **kwargs):
        super().__init__(num_classes, **kwargs)
        self.scale = scale

    def build(self, features_shape):
        super().build(features_shape)
        self.first = self.add_state("first", (self.num_classes, features_shape[-1]))
        self.count = self.add_state("count", (self.num_classes,))

    def compute_logits(self, features, training=False):
        features = ops.cast(features, self.state_dtype)
        logits = self.scale * ops.matmul(features, ops.transpose(self.first))
        return logits if training else self.hide_unseen(logits, self.seen())

    def _update(self, samples, apply):
        sums, counts = self.class_sums(samples)
        is_new = ops.logical_and(ops.copy(self.count) == 0, counts > 0)
        means = ops.divide_no_nan(sums, counts[:, None])
        first = ops.where(is_new[:, None], means, ops.copy(self.first))
        self.assign_state(self.first, first, apply)
        self.assign_state(self.count, self.count + counts, apply)

    def seen(self):
        return ops.copy(self.count) > 0

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}
'''
REGISTRY_LINE = '    "first": Method("first_sample", "FirstSample"),\n'
FLAGS_ROW = """    Flag(
        "scale",
        float,
        0.5,
        "Factor of the logits of --ncm=first.",
        "a positive number",
        positive,
        method="first",
    ),
"""
INSPECT = """
import json, sys
from methods import IDS
from deepncm_tf import classifiers
from deepncm_tf.runs.config import read_config
print(json.dumps({
    "table": IDS,
    "get": type(classifiers.get("first", num_classes=2, scale=3.0)).__name__,
    "config": read_config(sys.argv[1]),
}))
"""


def add_before(path, end, text):
    """Adds text before the last place of `end` in a file."""
    before, found, after = path.read_text().rpartition(end)
    assert found
    path.write_text(f"{before}{text}{found}{after}")


def run(folder, *arguments):
    outcome = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={"PYTHONPATH": f"{folder}:{folder / 'tests' / 'support'}", "HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    return outcome.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the project with one more method."""
    folder = tmp_path_factory.mktemp("copy")
    ignore = shutil.ignore_patterns("__pycache__", "golden")
    for name in ("deepncm_tf", "official_resnet", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    (folder / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    package = folder / "deepncm_tf"
    (package / "classifiers" / "first_sample.py").write_text(CLASSIFIER)
    add_before(package / "utils" / "registry.py", "}\n", REGISTRY_LINE)
    add_before(package / "flags" / "methods.py", ")\n", FLAGS_ROW)
    return folder


@pytest.mark.slow
def test_a_method_more_is_found_everywhere(copy):
    assert "--scale" in run(copy, "-m", "deepncm_tf.cifar_main", "--help")
    flags = ("--ncm=first", "--dataset=digits", "--max_train_steps=2", "--model_dir=run")
    printed = run(copy, "-m", "deepncm_tf.cifar_main", *flags)
    assert "Finished: test accuracy" in printed
    found = json.loads(run(copy, "-c", INSPECT, "run"))
    assert found["table"][-1] == found["get"] == "FirstSample"
    assert found["config"]["ncm"] == "first"
    assert found["config"]["scale"] == 0.5


@pytest.mark.slow
def test_a_method_more_conforms(copy):
    tests = copy / "tests" / "deepncm_tf" / "classifiers" / "test_conformance.py"
    printed = run(copy, "-m", "pytest", "-q", "-n0", tests, "-k", "FirstSample")
    assert " passed" in printed
    assert " failed" not in printed
