# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a run at the end of an epoch: all variables and the history, in one file.

A checkpoint is a NumPy archive. It is written under a temporary name and renamed, each of
its members carries a CRC-32, and the last two are kept: whatever happens while one is
written, or to it afterwards, there is a good one to go on from.
"""

import json
import pathlib
import sys
import zipfile
import zlib

import numpy as np

from deepncm_tf import runs

KEEP = 2
HISTORY = "history"


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Where they lie.
        variables: List of `keras.Variable`s: the model's and the optimizer's.
    """

    def __init__(self, folder, variables):
        self.folder = pathlib.Path(folder)
        # By number: paths depend on what else the process has built.
        self.variables = {f"{n:04d}": variable for n, variable in enumerate(variables)}

    def save(self, history):
        """Saves the variables as they are after `len(history)` epochs.

        Args:
            history: List of the epochs' logs, JSON objects.
        """
        arrays = {name: np.asarray(v) for name, v in self.variables.items()}
        text = json.dumps(history).encode()
        arrays[HISTORY] = np.frombuffer(text, dtype="uint8")
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"epoch-{len(history):05d}.npz"
        runs.write_atomically(path, lambda temporary: np.savez(temporary, **arrays))
        for old in self._paths()[:-KEEP]:
            old.unlink()

    def restore(self):
        """Sets the variables to the newest good checkpoint.

        Returns:
            The history up to it; an empty list where there is no checkpoint.

        Raises:
            runs.RunError: If a checkpoint is of another model, or all are damaged.
        """
        paths = self._paths()
        for path in reversed(paths):
            try:
                with path.open("rb") as file:
                    arrays = dict(np.load(file, allow_pickle=False))
            except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                print(f"Warning: {path} is damaged ({error}).", file=sys.stderr)
                continue
            return self._assign(path, arrays)
        if paths:
            raise runs.RunError(
                f"All checkpoints in {self.folder} are damaged. Give --overwrite to start "
                "anew."
            )
        return []

    def _assign(self, path, arrays):
        history = json.loads(arrays.pop(HISTORY).tobytes())
        kinds = {n: (tuple(v.shape), v.dtype) for n, v in self.variables.items()}
        if {n: (a.shape, str(a.dtype)) for n, a in arrays.items()} != kinds:
            raise runs.RunError(
                f"{path} is a checkpoint of another model than the flags describe. Give "
                "another --model_dir, or --overwrite to start anew."
            )
        for name, variable in self.variables.items():
            variable.assign(arrays[name])
        return history

    def _paths(self):
        return sorted(self.folder.glob("epoch-*.npz"))
