# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: who may use it, and files that are whole or not there."""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import sys

from deepncm_tf import flags

PACKAGES = ("deepncm_tf", "keras", "numpy", "tensorflow", "tensorflow-datasets")


class RunError(RuntimeError):
    """The folder cannot be used for this run."""


def write_atomically(path, write):
    """Writes a file under a temporary name and renames it.

    Args:
        path: The file's path.
        write: Function that writes to a path; the temporary name ends like `path`.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def write_json(path, value):
    text = json.dumps(value, indent=2, sort_keys=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))


def versions():
    """Versions of the packages that a result depends on, and the commit, where known."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return {**found, "commit": _commit()}


def _commit():
    here = pathlib.Path(__file__).parent
    try:
        commit, tracked = (
            subprocess.run(
                ["git", "-C", str(here), *command],
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


class RunFolder:
    """A run's folder.

    Files: `config.json` (flags and versions), `metrics.jsonl` (an object per epoch),
    `checkpoints/`, `summaries/` (TensorBoard), `model.keras`, and last `result.json`.

    Args:
        config: Dictionary of resolved flags; `model_dir` is the folder.
    """

    def __init__(self, config):
        self.config = config
        self.path = pathlib.Path(config["model_dir"])
        self.replaced = None

    def result(self):
        """The result of a finished run of this identity, or None."""
        if self.config["overwrite"] or self._stored() is None:
            return None
        self._check_identity()
        with contextlib.suppress(FileNotFoundError):
            return json.loads((self.path / "result.json").read_text())

    def check(self):
        """Checks, without touching anything, that `open` can be expected to succeed.

        Raises:
            RunError: As `open`.
        """
        existing = next(p for p in (self.path, *self.path.absolute().parents) if p.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            raise RunError(
                "--model_dir must be a folder that can be written. "
                f"Received: --model_dir={self.path}"
            )
        if not self.config["overwrite"]:
            self._check_contents()

    def open(self):
        """Makes the folder ready for this run, before anything is computed.

        Raises:
            RunError: If it cannot be written, holds another run, or other files.
        """
        try:
            if self.config["overwrite"] and self.path.exists():
                self._move_aside()
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / "writable", pathlib.Path.touch)
            os.remove(self.path / "writable")
        except OSError as error:
            raise RunError(
                f"--model_dir must be a folder that can be written ({error.strerror}). "
                f"Received: --model_dir={self.path}"
            ) from error
        self._check_contents()
        if self._stored() is None:
            write_json(
                self.path / "config.json",
                {"flags": self.config, "versions": versions()},
            )
        self._warn_of_other_versions()

    def started(self):
        """Deletes the run that this one replaces; call it once there is a checkpoint."""
        if self.replaced is not None:
            shutil.rmtree(self.replaced)
            self.replaced = None

    def _stored(self):
        try:
            return json.loads((self.path / "config.json").read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise RunError(
                f"{self.path / 'config.json'} is damaged ({error}). Move the folder away, "
                "or give --overwrite to start anew."
            ) from error

    def _check_contents(self):
        if self._stored() is not None:
            self._check_identity()
        elif self.path.exists() and any(self.path.iterdir()):
            raise RunError(
                "--model_dir must be empty or hold a run; this one holds other files. "
                f"Received: --model_dir={self.path}"
            )

    def _check_identity(self):
        stored = flags_identity(self._stored()["flags"])
        ours = flags_identity(self.config)
        differences = [
            f"--{name}: {stored.get(name)} there, {ours.get(name)} here"
            for name in sorted({*stored, *ours})
            if stored.get(name) != ours.get(name)
        ]
        if differences:
            raise RunError(
                f"--model_dir={self.path} holds another run ({'; '.join(differences)}). "
                "Give another --model_dir, or --overwrite to start anew."
            )

    def _warn_of_other_versions(self):
        stored, ours = self._stored()["versions"], versions()
        for name in sorted({*stored, *ours}):
            if stored.get(name) != ours.get(name):
                print(
                    f"Warning: {self.path} was begun with {name} {stored.get(name)}; this "
                    f"is {ours.get(name)}. The result may differ from that of an "
                    "uninterrupted run.",
                    file=sys.stderr,
                )

    def _move_aside(self):
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.old{number}")).exists():
            number += 1
        os.rename(self.path, aside)
        self.replaced = aside


def flags_identity(config):
    """`flags.identity` of a config that another version may have written."""
    return flags.identity({k: v for k, v in config.items() if k in flags.TABLE})
