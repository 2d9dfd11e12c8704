# SPDX-License-Identifier: Apache-2.0
"""The versions of what a result depends on."""

import contextlib
import importlib.metadata
import pathlib
import subprocess
import sys

PACKAGES = (
    "deepncm_tf",
    "keras",
    "keras-hub",
    "numpy",
    "pillow",
    "scikit-learn",
    "tensorflow",
    "tensorflow-datasets",
)
BACKENDS = {"jax": ("jax", "jaxlib"), "torch": ("torch",)}  # by Keras's name


def versions():
    """Versions of the packages that a result depends on, and the commit, where known."""
    import keras  # here, so that a command line's --help does without

    numbers = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in (*PACKAGES, *BACKENDS.get(keras.backend.backend(), ())):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            numbers[package] = importlib.metadata.version(package)
    return {**numbers, "commit": _commit()}


def _commit():
    path = pathlib.Path(__file__)
    try:
        # Another's repository may hold the environment that the package is installed in.
        _git(path, "ls-files", "--error-unmatch", path.name)
        commit = _git(path, "rev-parse", "HEAD").strip()
        changes = _git(path, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changes else "")


def _git(path, *command):
    """What git says in the folder of a file."""
    command = ["git", "-C", str(path.parent), *command]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
