# SPDX-License-Identifier: Apache-2.0
"""Which kernels TensorFlow takes is chosen before its import, and kept over a run."""

import json
import os
import platform
import subprocess
import sys
import warnings

import pytest

from deepncm_tf import cifar_main, flags, runs
from deepncm_tf.runs import training
from deepncm_tf.utils import environment, files
from experiments import job

ONEDNN = environment.ONEDNN


@pytest.fixture
def before_tensorflow(monkeypatch):
    """As in a process that has not imported TensorFlow, on x86, with no user's choice."""
    monkeypatch.setenv(ONEDNN, "")  # so that it is put back, also where it was unset
    monkeypatch.delenv(ONEDNN)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setattr(environment, "_given", None)
    monkeypatch.setattr(environment, "_tensorflow_is_imported", lambda: False)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


@pytest.mark.parametrize(
    ("machine", "users", "chosen"),
    [
        ("x86_64", None, "1"),
        ("AMD64", None, "1"),
        ("aarch64", None, None),
        ("x86_64", "0", "0"),
    ],
)
def test_the_choice(before_tensorflow, monkeypatch, machine, users, chosen):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    if users is not None:
        monkeypatch.setenv(ONEDNN, users)
    environment.use_onednn()
    assert os.environ.get(ONEDNN) == chosen
    assert environment.recorded() == {ONEDNN: chosen, "KERAS_BACKEND": None}


@pytest.mark.parametrize(
    ("machine", "users", "has_onednn", "warns"),
    [
        ("x86_64", None, False, True),
        ("x86_64", None, True, False),  # a processor for which TensorFlow chose so
        ("x86_64", "0", False, False),
        ("aarch64", None, False, False),
    ],
)
def test_tensorflow_came_first(
    before_tensorflow, monkeypatch, machine, users, has_onednn, warns
):
    monkeypatch.setattr(environment, "_tensorflow_is_imported", lambda: True)
    monkeypatch.setattr(environment, "_has_onednn", lambda: has_onednn)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    if users is not None:
        monkeypatch.setenv(ONEDNN, users)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        environment.use_onednn()
    assert len(caught) == warns
    assert all("about 1.7 times as long" in str(warning.message) for warning in caught)
    assert os.environ.get(ONEDNN) == users


def begin(folder, values, stored):
    """The folder of a run under way, begun with a value; "older" did not record it."""
    config = flags.resolve({**values, "model_dir": str(folder)})
    one = runs.RunFolder(config)
    one.open()
    one.close()
    written = json.loads((folder / "config.json").read_text())
    assert list(written["environment"]) == [ONEDNN, "KERAS_BACKEND"]
    written["environment"][ONEDNN] = stored
    if stored == "older":
        del written["environment"]
    files.write_json(folder / "config.json", written)


@pytest.mark.parametrize(
    ("stored", "users", "used", "words"),
    [
        ("1", None, "1", None),
        ("0", None, "0", None),
        (None, None, None, None),
        ("older", None, None, None),
        ("0", "0", "0", None),
        ("0", "1", "1", "0; this is 1"),
        ("1", "0", "0", "1; this is 0"),
        ("older", "1", "1", "unset; this is 1"),
    ],
)
def test_a_run_goes_on_with_what_it_began_with(
    before_tensorflow, monkeypatch, tmp_path, capsys, stored, users, used, words
):
    values = {"dataset": "digits", "seed": 7}
    begin(tmp_path / "run", values, stored)
    if users is not None:
        monkeypatch.setenv(ONEDNN, users)
        monkeypatch.setattr(environment, "_given", users)
    environment.use_onednn()  # what `import deepncm_tf` does

    def run(config):
        assert os.environ.get(ONEDNN) == used
        folder = runs.RunFolder(config)
        folder.open()
        folder.close()
        raise runs.RunError("seen")

    given = {**values, "model_dir": str(tmp_path / "run")}
    monkeypatch.setattr(training, "run", run)
    monkeypatch.setattr(flags, "given", lambda _: given)
    with pytest.raises(SystemExit):
        cifar_main.main(["cifar_main"])
    *warned, last = capsys.readouterr().err.splitlines()
    assert last == "cifar_main: seen"
    assert len(warned) == (words is not None)
    assert all(f"begun with {ONEDNN} {words}" in line for line in warned)


def test_overwriting_is_a_new_run(tmp_path):
    values = {"dataset": "digits"}
    begin(tmp_path / "run", values, "0")
    stored = {**environment.recorded(), ONEDNN: "0"}
    for overwrite, expected in ((False, stored), (True, None)):
        config = flags.resolve(
            {**values, "model_dir": str(tmp_path / "run"), "overwrite": overwrite}
        )
        assert runs.RunFolder(config).begun_with() == expected


@pytest.mark.parametrize("users", [None, "0"])
def test_a_job_leaves_the_choice_to_the_run(
    before_tensorflow, monkeypatch, tmp_path, users
):
    if users is not None:
        monkeypatch.setenv(ONEDNN, users)
        monkeypatch.setattr(environment, "_given", users)
    environment.use_onednn()
    started = []
    monkeypatch.setattr(os, "execve", lambda *arguments: started.append(arguments))
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    job.main(["--jobs=1", "--ncm=decay", f"--model_dir={tmp_path / 'run'}"])
    ((_, command, variables),) = started
    assert command[-1] == f"--model_dir={tmp_path / 'run'}"
    assert variables.get(ONEDNN) == users
    assert variables["PATH"] == os.environ["PATH"]


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="TensorFlow chooses elsewhere")
def test_tensorflow_does_as_told():
    code = (
        "import deepncm_tf, tensorflow; from tensorflow.python.util import "
        "_pywrap_util_port as port; print(port.IsMklEnabled())"
    )
    for users, expected in ((None, "True"), ("0", "False")):
        variables = {k: v for k, v in os.environ.items() if k != ONEDNN}
        if users is not None:
            variables[ONEDNN] = users
        outcome = subprocess.run(
            [sys.executable, "-c", code], env=variables, capture_output=True, text=True
        )
        assert outcome.stdout.split() == [expected], outcome.stderr
