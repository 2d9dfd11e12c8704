# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a run: all variables and how far it has come, in one file.

A checkpoint is a NumPy archive. It is written under a temporary name and renamed, each of
its members carries a CRC-32, and the last two are kept: whatever happens while one is
written, or to it afterwards, there is a good one to go on from.
"""

import dataclasses
import json
import pathlib
import sys

import numpy as np

from deepncm_tf import runs
from deepncm_tf.distribution import replicas, sharded
from deepncm_tf.utils import files

KEEP = 2
PROGRESS = "progress"


@dataclasses.dataclass
class Progress:
    """How far a run has come.

    Args:
        history: The entries of the completed epochs, as in `metrics.jsonl`.
        batches: Int, batches trained in the epoch that is under way.
        seconds: Float, seconds spent on them.
        initial: Figures of the evaluations before the first step, a dictionary; empty
            where the run began with nothing that was learnt.
    """

    history: list = dataclasses.field(default_factory=list)
    batches: int = 0
    seconds: float = 0.0
    initial: dict = dataclasses.field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Where they lie.
        variables: List of `keras.Variable`s: the model's and the optimizer's.
        metrics: List of the metrics' variables, which matter inside an epoch.
        writes: Bool, whether this process is the one that writes.
    """

    def __init__(self, folder, variables, metrics=(), writes=True):
        self.writes = writes
        self.folder = pathlib.Path(folder)
        # By number: paths depend on what else the process has built.
        self.variables = {f"{n:04d}": variable for n, variable in enumerate(variables)}
        self.metrics = {f"metric-{n:04d}": v for n, v in enumerate(metrics)}
        self.metric_values = {}

    def save(self, progress):
        """Saves the variables as they are.

        Args:
            progress: The run's `Progress`.
        """
        arrays = {n: np.asarray(sharded.whole(v)) for n, v in self.variables.items()}
        for name, variable in self.variables.items():
            arrays[name] = arrays[name].astype(_stored_dtype(variable), copy=False)
        if progress.batches:
            arrays.update({n: replicas.read_copies(v) for n, v in self.metrics.items()})
        if not self.writes:
            return
        text = json.dumps(dataclasses.asdict(progress)).encode()
        arrays[PROGRESS] = np.frombuffer(text, dtype="uint8")
        files.make_folder(self.folder)
        name = f"epoch-{len(progress.history):05d}-batch-{progress.batches:07d}.npz"
        files.write_atomically(
            self.folder / name, lambda temporary: np.savez(temporary, **arrays)
        )
        for old in self._paths()[:-KEEP]:
            old.unlink()

    def restore(self):
        """Sets the variables to the newest good checkpoint.

        Returns:
            The `Progress` up to it; none where there is no checkpoint.

        Raises:
            runs.RunError: If a checkpoint is of another model, or all are damaged.
        """
        paths = self._paths()
        for path in reversed(paths):
            try:
                with path.open("rb") as file:
                    arrays = dict(np.load(file, allow_pickle=False))
                progress = Progress(**json.loads(arrays.pop(PROGRESS).tobytes()))
            except Exception as error:  # a damaged archive fails in many ways
                print(
                    f"Warning: {path} is damaged ({error}); the one before it is used.",
                    file=sys.stderr,
                )
                continue
            self._assign(path, arrays)
            return progress
        if paths:
            raise runs.RunError(
                f"All checkpoints in {self.folder} are damaged. Give --overwrite to start "
                "anew."
            )
        return Progress()

    def restore_metrics(self):
        """Sets the metrics as they were inside the epoch; once, after `fit` resets them."""
        for name, copies in self.metric_values.items():
            replicas.assign_copies(self.metrics[name], copies)
        self.metric_values = {}

    def _assign(self, path, arrays):
        self.metric_values = {n: arrays.pop(n) for n in self.metrics if n in arrays}
        if arrays.keys() != self.variables.keys() or not all(
            arrays[n].shape == sharded.whole_shape(v)
            and str(arrays[n].dtype) in (_stored_dtype(v), _earlier_dtype(v))
            for n, v in self.variables.items()
        ):
            raise runs.RunError(
                f"{path} is a checkpoint of another model than the flags describe. Give "
                "another --model_dir, or --overwrite to start anew."
            )
        for name, variable in self.variables.items():
            sharded.assign(variable, arrays[name])

    def _paths(self):
        return sorted(self.folder.glob("epoch-*.npz"))


def _stored_dtype(variable):
    """Dtype of a variable's values in an archive: NumPy's own have no bfloat16."""
    return "float32" if variable.dtype == "bfloat16" else variable.dtype


def _earlier_dtype(variable):
    """Dtype of a variable's values in archives of earlier versions.

    Sums, which are float64 now, and memories of mixed precision were float32.
    """
    changed = variable.dtype in ("float64", "float16")
    return "float32" if changed else _stored_dtype(variable)
