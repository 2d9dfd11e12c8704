# SPDX-License-Identifier: Apache-2.0
"""The versions of what a result depends on."""

import contextlib
import importlib.metadata
import pathlib
import subprocess
import sys

PACKAGES = ("deepncm_tf", "keras", "numpy", "tensorflow", "tensorflow-datasets")


def versions():
    """Versions of the packages that a result depends on, and the commit, where known."""
    numbers = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            numbers[package] = importlib.metadata.version(package)
    return {**numbers, "commit": _commit()}


def _commit():
    folder = pathlib.Path(__file__).parent
    try:
        commit, tracked = (
            subprocess.run(
                ["git", "-C", str(folder), *command],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for command in (
                ["rev-parse", "HEAD"],
                ["status", "--porcelain", "--untracked-files=no"],
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.strip() + ("+changes" if tracked else "")
