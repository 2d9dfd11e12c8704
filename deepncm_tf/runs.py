# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: who may use it, and files that are whole or not there."""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

from deepncm_tf import files, flags
from deepncm_tf.files import write_atomically, write_json

LOCK = "lock"
SUMS = "SHA256SUMS"
SUMMED = ("metrics.jsonl", "model.keras", "result.json")
RUN_FILES = {*SUMMED, SUMS, LOCK, "config.json", "checkpoints", "summaries"}
RUN_FILES |= {"discovery.json", "evaluation.json"}  # written afterwards
PACKAGES = ("deepncm_tf", "keras", "numpy", "tensorflow", "tensorflow-datasets")


class RunError(RuntimeError):
    """The folder cannot be used for this run."""


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
    `checkpoints/`, `summaries/` (TensorBoard), `model.keras`, `SHA256SUMS`, and last
    `result.json`. While a run is under way it holds a lock on `lock`.

    Args:
        config: Dictionary of resolved flags; `model_dir` is the folder.
    """

    def __init__(self, config):
        self.config = config
        self.path = pathlib.Path(config["model_dir"]).absolute()
        self.replaced = None
        self._lock = None

    def result(self):
        """The result of a finished run of this identity, or None.

        Where a file of the finished run is damaged, that is said and None returned: the
        run's last checkpoint gives the file again.
        """
        if self.config["overwrite"] or self._stored() is None:
            return None
        self._check_identity()
        if not (self.path / "result.json").exists():
            return None
        damaged = [name for name in SUMMED if self._sums().get(name) != self._digest(name)]
        if damaged:
            print(
                f"Warning: {' and '.join(damaged)} in {self.path}: not the checksums of "
                f"{SUMS}; the last checkpoint gives them again.",
                file=sys.stderr,
            )
            return None
        return json.loads((self.path / "result.json").read_text())

    def finish(self, result):
        """Writes the result of the run, which is then finished.

        Args:
            result: The contents of `result.json`, a dictionary.
        """
        temporary = self.path / f".tmp-{os.getpid()}-result.json"
        write_json(temporary, result)
        sums = [(self._digest(name), name) for name in SUMMED[:-1]]
        sums.append((self._digest(temporary.name), SUMMED[-1]))
        text = "".join(f"{digest}  {name}\n" for digest, name in sums)
        write_atomically(self.path / SUMS, lambda path: path.write_text(text))
        os.replace(temporary, self.path / "result.json")
        files.sync(self.path)

    def check(self):
        """Checks, without touching anything, that `open` can be expected to succeed.

        Raises:
            RunError: As `open`.
        """
        try:
            existing = next(p for p in (self.path, *self.path.parents) if p.exists())
            writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
        except OSError:
            writable = False
        if not writable:
            raise RunError(
                "--model_dir must be a folder that can be written. "
                f"Received: --model_dir={self.path}"
            )
        self._check_contents()
        if (self.path / LOCK).exists():
            self._acquire()
            self.close()

    def open(self):
        """Makes the folder ready for this run, before anything is computed.

        Raises:
            RunError: If it cannot be written, holds another run, or other files.
        """
        try:
            if self.config["overwrite"] and self.path.exists():
                self._check_contents()
                self._acquire()  # nobody moves a run that is under way
                self._move_aside()
                self.close()
            files.make_folder(self.path)
            self._acquire()
            self._check_contents()
            if self._stored() is None:
                write_json(
                    self.path / "config.json",
                    {"flags": self.config, "versions": versions()},
                )
        except OSError as error:
            self.close()
            raise RunError(
                f"--model_dir must be a folder that can be written ({error.strerror}). "
                f"Received: --model_dir={self.path}"
            ) from error
        except RunError:
            self.close()
            raise
        self._warn_of_other_versions()

    def close(self):
        """Gives the lock back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def started(self):
        """Deletes the run that this one replaces; call it once there is a checkpoint."""
        if self.replaced is not None:
            shutil.rmtree(self.replaced)
            self.replaced = None

    def _stored(self):
        try:
            stored = json.loads((self.path / "config.json").read_text())
            return {"flags": dict(stored["flags"]), "versions": dict(stored["versions"])}
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(
                f"{self.path / 'config.json'} is damaged, or not that of a run ({error}). "
                "Move the folder away, or give --overwrite to start anew in a run's folder."
            ) from error

    def _acquire(self):
        lock = (self.path / LOCK).open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            lock.close()
            raise RunError(
                f"--model_dir={self.path} is in use by {holder}. Wait for it, stop it, or "
                "give another --model_dir."
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        self._lock = lock

    def _sums(self):
        with contextlib.suppress(OSError, ValueError):
            lines = (self.path / SUMS).read_text().splitlines()
            return {name: digest for digest, name in (line.split() for line in lines)}
        return {}

    def _digest(self, name):
        with contextlib.suppress(OSError):
            return hashlib.sha256((self.path / name).read_bytes()).hexdigest()
        return "missing"

    def _check_contents(self):
        others = {p.name for p in self.path.iterdir()} if self.path.exists() else set()
        others = {name for name in others if not name.startswith(".tmp-")} - RUN_FILES
        if others:
            raise RunError(
                "--model_dir must be empty or hold a run; this one holds other files, such "
                f"as {min(others)}. Received: --model_dir={self.path}"
            )
        if not self.config["overwrite"] and self._stored() is not None:
            self._check_identity()

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
    """`flags.identity` of a config that another version may have written.

    A flag that the other version did not have counts as what it did then.
    """
    defaults = {
        flag.name: flag.default if flag.before is None else flag.before
        for flag in flags.FLAGS
        if flag.method in ("", config.get("ncm")) and not flag.from_dataset
    }
    known = {name: value for name, value in config.items() if name in flags.TABLE}
    return flags.identity({**defaults, **known})
