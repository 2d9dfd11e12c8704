# SPDX-License-Identifier: Apache-2.0
"""Ends a run in this process: in a step or an evaluation, at a checkpoint, by a signal."""

import os
import signal

from deepncm_tf.runs import callbacks


class InterruptedRunError(Exception):
    pass


def interrupt(monkeypatch, epoch, where):
    """Ends the run in an epoch: in its third batch, before or after its checkpoint."""
    on_epoch_end = callbacks.Record.on_epoch_end

    def on_train_batch_begin(self, batch, logs=None):
        if where == "batch" and batch == 2:
            raise InterruptedRunError

    monkeypatch.setattr(callbacks.Record, "on_train_batch_begin", on_train_batch_begin)

    def interrupted(self, epoch_index, logs=None):
        if epoch_index == epoch and where == "between":
            self.progress.history.append(self.report.entry)
            self.write_metrics()  # logged, but not checkpointed
            raise InterruptedRunError
        on_epoch_end(self, epoch_index, logs)
        if epoch_index == epoch:
            raise InterruptedRunError

    monkeypatch.setattr(callbacks.Record, "on_epoch_end", interrupted)


def stop_at(patch, step, signum=signal.SIGTERM):
    """Sends a signal at the beginning of a step, counted from 1 in this process."""
    steps = iter(range(1, 100))

    def on_train_batch_begin(self, batch, logs=None):
        if next(steps) == step:
            os.kill(os.getpid(), signum)

    patch.setattr(callbacks.Record, "on_train_batch_begin", on_train_batch_begin)


def break_evaluation(patch, epoch):
    """Ends the run in the evaluation of an epoch, counted from 1."""
    evaluate = callbacks.EpochReport._evaluate

    def interrupted(self):
        if len(self.progress.history) + 1 == epoch:
            raise InterruptedRunError
        return evaluate(self)

    patch.setattr(callbacks.EpochReport, "_evaluate", interrupted)


def batches_done(folder):
    """Batches of the epoch under way that the newest checkpoint has done."""
    newest = max(path.stem for path in (folder / "checkpoints").iterdir())
    return int(newest.rpartition("-")[2])
