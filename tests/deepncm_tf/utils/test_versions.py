# SPDX-License-Identifier: Apache-2.0
"""What is recorded of the versions that a result depends on."""

import shutil
import subprocess

import keras
import pytest

from deepncm_tf.utils import versions


def git(folder, *command):
    user = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    command = ["git", "-C", str(folder), *user, *command]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_commit_is_of_the_repository_that_has_the_package(tmp_path, monkeypatch):
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "Begin a project")
    installed = tmp_path / ".venv" / "deepncm_tf" / "utils" / "versions.py"
    installed.parent.mkdir(parents=True)
    shutil.copy(versions.__file__, installed)
    monkeypatch.setattr(versions, "__file__", str(installed))
    assert versions.versions()["commit"] is None

    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "Add the package")
    head = git(tmp_path, "rev-parse", "HEAD").strip()
    assert versions.versions()["commit"] == head
    installed.write_text("")
    assert versions.versions()["commit"] == f"{head}+changes"


@pytest.mark.parametrize(
    ("backend", "packages"),
    [("tensorflow", set()), ("jax", {"jax", "jaxlib"}), ("torch", {"torch"})],
)
def test_the_packages_that_compute(monkeypatch, backend, packages):
    monkeypatch.setattr(versions.importlib.metadata, "version", lambda package: "1.0")
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    recorded = set(versions.versions())
    assert {"python", "keras", "numpy", "pillow", "tensorflow", "commit"} <= recorded
    assert recorded & {"jax", "jaxlib", "torch"} == packages
