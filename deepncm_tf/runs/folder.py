# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: who may use it, and files that are whole or not there."""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import sys

from deepncm_tf.runs import replaced_runs
from deepncm_tf.runs.config import flags_identity, parse_stored
from deepncm_tf.utils import environment, files
from deepncm_tf.utils.errors import RunError
from deepncm_tf.utils.locks import LOCK, FolderLock, open_file
from deepncm_tf.utils.versions import versions

SUMS = "SHA256SUMS"
SUMMED = ("metrics.jsonl", "model.keras", "result.json")
RUN_FILES = {*SUMMED, SUMS, LOCK, "config.json", "checkpoints", "summaries"}
RUN_FILES |= {"pictures.txt", "overlays.png"}  # of folders, of segmentation
RUN_FILES |= {"discovery.json", "evaluation.json", "roc.png"}  # written afterwards
LENGTH = {"train_epochs", "max_train_steps"}  # flags


class RunFolder:
    """A run's folder.

    Files: `config.json` (flags, versions, environment), of a folder's pictures
    `pictures.txt`, `metrics.jsonl` (an object per epoch), `checkpoints/`, `summaries/`
    (TensorBoard), `model.keras`, `SHA256SUMS`, and last `result.json`. While a run is
    under way it holds a lock on `lock`.

    Args:
        config: Dictionary of resolved flags; `model_dir` is the folder.
    """

    def __init__(self, config):
        self.config = config
        with _system_errors(config["model_dir"]):
            # Not a link to it, which could be given another folder while the run goes on.
            self.path = pathlib.Path(os.path.realpath(config["model_dir"]))
        self._lock = FolderLock(self.path)
        self._replaces = True

    def result(self):
        """The result of a finished run of this identity, or None.

        Where a file of the finished run is damaged, that is said and None returned: the
        run's last checkpoint gives the file again.

        Raises:
            RunError: If the folder holds another run, or cannot be read.
        """
        with _system_errors(self.path):
            return self._result()

    def _result(self):
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
        return json.loads(self._read("result.json"))

    def finish(self, result):
        """Writes the result of the run, which is then finished.

        Args:
            result: The contents of `result.json`, a dictionary.

        Raises:
            RunError: As `writing`.
        """
        with self.writing():
            self._finish(result)

    def _finish(self, result):
        temporary = self.path / f".tmp-{os.getpid()}-result.json"
        files.write_json(temporary, result)
        sums = [(self._digest(name), name) for name in SUMMED[:-1]]
        sums.append((self._digest(temporary.name), SUMMED[-1]))
        text = "".join(f"{digest}  {name}\n" for digest, name in sums)
        files.write_atomically(self.path / SUMS, lambda path: path.write_text(text))
        os.replace(temporary, self.path / "result.json")
        files.sync(self.path)

    def check(self):
        """Checks, without touching anything, that `open` can be expected to succeed.

        Raises:
            RunError: As `open`.
        """
        with _system_errors(self.path):
            existing = next(p for p in (self.path, *self.path.parents) if p.exists())
            if not existing.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if not os.access(existing, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            self._check_contents()
            with contextlib.closing(self), contextlib.suppress(FileNotFoundError):
                # Shared: workers that start together check at the same time.
                self._take_lock(create=False, shared=True)

    def open(self):
        """Makes the folder ready for this run, before anything is computed.

        Raises:
            RunError: If it cannot be written, holds another run, or other files.
        """
        try:
            with _system_errors(self.path):
                self._open()
        except RunError:
            self.close()
            raise

    def _open(self):
        self._check_contents()  # among other files not even a lock is made
        self._make()
        if self.config["overwrite"] and self._contents() != {LOCK}:
            replaced_runs.move_aside(self.path, self._lock)
            self._make()
            if self._contents() != {LOCK}:
                raise RunError(
                    f"Another process has begun a run in --model_dir={self.path} meanwhile."
                )
        self._check_contents()
        for name in ("", "checkpoints", "summaries"):
            files.remove_temporaries(self.path / name)
        if self._stored() is None:
            config = {
                "flags": self.config,
                "versions": versions(),
                "environment": environment.recorded(),
            }
            files.write_json(self.path / "config.json", config)
        self._warn_of_other_versions()

    def begun_with(self):
        """Environment variables that the run in the folder was begun with.

        Returns:
            Dictionary, as from `environment.recorded`, empty for a run of a version that
            did not record them; or None where there is no run to go on with.
        """
        stored = None if self.config["overwrite"] else self._stored()
        return None if stored is None else stored["environment"]

    def close(self):
        """Gives the lock back."""
        self._lock.close()

    def check_lock(self):
        """Checks that the folder at the path is still the one that was locked.

        Raises:
            RunError: If not; another process may use what is there now.
        """
        if self._lock.held and not self._lock.in_place():
            raise RunError(
                f"--model_dir={self.path} is no longer the folder that this run locked: it "
                "was moved or replaced, or its lock deleted. Nothing more is written there."
            )

    @contextlib.contextmanager
    def writing(self):
        """Context in which files are written, while the folder is this run's.

        Raises:
            RunError: If it no longer is; or for an `OSError`.
        """
        self.check_lock()
        try:
            yield
        except OSError as error:
            self.check_lock()
            raise RunError(
                f"{files.describe(error)}: nothing more could be written to "
                f"--model_dir={self.path}. What was written before is intact: once that is "
                "mended, the same command goes on from there."
            ) from error

    def started(self):
        """Deletes the runs that this one replaces; call it once there is a checkpoint."""
        if not self._replaces or not self._lock.held:
            return
        self._replaces = False
        try:
            replaced_runs.delete_replaced(self.path)
        except OSError as error:
            text = "a run that --overwrite replaced could not be deleted"
            print(f"Warning: {text} ({files.describe(error)}).", file=sys.stderr)

    def _stored(self):
        try:
            return parse_stored(self._read("config.json"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise RunError(
                f"{self.path / 'config.json'} is damaged, or not that of a run ({error}). "
                "Move the folder away, or give --overwrite to start anew in a run's folder."
            ) from error

    def _make(self):
        files.make_folder(self.path)
        self._take_lock()
        self._lock.sign()

    def _take_lock(self, create=True, shared=False):
        holder = self._lock.take(create, shared)
        if holder is not None:
            raise RunError(
                f"--model_dir={self.path} is in use by {holder}. Wait for it, stop it, or "
                "give another --model_dir."
            )
        self.check_lock()  # who held the lock until now may have moved the folder

    def _sums(self):
        with contextlib.suppress(OSError, ValueError):
            lines = self._read(SUMS).decode().splitlines()
            return {name: digest for digest, name in (line.split() for line in lines)}
        return {}

    def _digest(self, name):
        with contextlib.suppress(OSError):
            return hashlib.sha256(self._read(name)).hexdigest()
        return "missing"

    def _read(self, name):
        with open(open_file(self.path / name, os.O_RDONLY), "rb") as file:
            return file.read()

    def _contents(self):
        """Names of what is in the folder, without what killed processes left."""
        with contextlib.suppress(FileNotFoundError):
            return {n for n in os.listdir(self.path) if not files.is_temporary(n)}
        return set()

    def _check_contents(self):
        others = self._contents() - RUN_FILES
        if others:
            raise RunError(
                "--model_dir must be empty or hold a run; this one holds other files, such "
                f"as {min(others)}. Received: --model_dir={self.path}"
            )
        if not self.config["overwrite"] and self._stored() is not None:
            self._check_identity()

    def _check_identity(self):
        stored = flags_identity(self._stored()["flags"])
        given = flags_identity(self.config)
        different = {n for n in {*stored, *given} if stored.get(n) != given.get(n)}
        if different:
            differences = "; ".join(
                f"--{name}: {stored.get(name)} there, {given.get(name)} here"
                for name in sorted(different)
            )
            length = "A run's length cannot be changed afterwards. "
            raise RunError(
                f"--model_dir={self.path} holds another run ({differences}). "
                f"{length if different <= LENGTH else ''}"
                "Give another --model_dir, or --overwrite to start anew."
            )

    def _warn_of_other_versions(self):
        stored = self._stored()
        stored = {**stored["versions"], **environment.in_words(stored["environment"])}
        current = {**versions(), **environment.in_words(environment.recorded())}
        for name in sorted(stored):  # earlier versions did not record all of them
            if stored[name] != current.get(name):
                print(
                    f"Warning: {self.path} was begun with {name} {stored[name]}; this "
                    f"is {current.get(name)}. The result may differ from that of an "
                    "uninterrupted run.",
                    file=sys.stderr,
                )


@contextlib.contextmanager
def _system_errors(path):
    """Turns what the system says of a folder into a `RunError`."""
    try:
        yield
    except (OSError, RecursionError) as error:
        raise RunError(
            f"--model_dir must be a folder that can be written ({files.describe(error)}). "
            f"Received: --model_dir={path}"
        ) from error
