# SPDX-License-Identifier: Apache-2.0
"""What happens around the epochs of a run: evaluation, records, checkpoints, the end."""

import json
import math
import time

import keras
import tensorflow as tf

from deepncm_tf.distribution import replicas
from deepncm_tf.utils import files

EVALUATIONS = ("val", "test")


class StopAfter(keras.callbacks.Callback):
    """Ends training after a number of steps, also inside an epoch.

    Args:
        steps: Int, from now on.
    """

    def __init__(self, steps):
        super().__init__()
        self.steps_left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.steps_left -= 1
        if self.steps_left <= 0:
            self.model.stop_training = True


class EpochReport(keras.callbacks.Callback):
    """Evaluates at the end of an epoch and puts together what is to be recorded of it.

    The figures of the evaluations join Keras's logs, as `test_accuracy` and so on. The
    attribute `entry` holds everything: the logs, epoch, step, learning rate and speed.

    Args:
        task: The run's `tasks.Classification`, or another task.
        splits: Dictionary from `"val"` or `"test"` to images and labels.
        every: Int, epochs from one evaluation to the next; the last is always evaluated.
        plan: The run's `TrainingPlan`.
        progress: The run's `checkpoints.Progress`, with the part of the first epoch that
            is trained already.
    """

    def __init__(self, task, splits, every, plan, progress):
        super().__init__()
        self.task = task
        self.evaluations = task.evaluations(splits, plan)
        self.every = every
        self.plan = plan
        self.progress = progress
        self.entry = None
        self.lag = None  # `lag.Lag`, where a note is wanted of it

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter() - self.progress.seconds

    def on_train_batch_end(self, batch, logs=None):
        self.progress.batches += 1
        self.progress.seconds = time.perf_counter() - self.start

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self.start
        step = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        samples = self.progress.batches * self.plan.batch_size
        samples = min(samples, len(self.plan.labels))
        self.entry = {
            "epoch": epoch + 1,
            "step": step,
            **logs,
            **self.task.epoch_figures(self.model),
            "learning_rate": float(self.plan.learning_rate(max(step - 1, 0))),
            "seconds": seconds,
            "images_per_second": samples / seconds,
        }
        last = epoch + 1 == self.plan.epochs or self.model.stop_training
        if last or (epoch + 1) % self.every == 0:
            figures = self._evaluate()
            if self.lag is not None and (note := self.lag.note(step)):
                print(note)
            self.entry.update(figures)
            # On the screen a count of unseen samples is news only where there are any.
            shown = {n: v for n, v in figures.items() if v or "unseen" not in n}
            logs.update({n: v for n, v in shown.items() if "_iou_" not in n})

    def evaluate(self, model):
        """Figures of a model outside of `fit`, a dictionary."""
        self.set_model(model)
        return self._evaluate()

    def _evaluate(self):
        entry = {}
        for prefix, (dataset, steps) in self.evaluations.items():
            figures = self.model.evaluate(dataset, steps=steps, verbose=0, return_dict=True)
            figures |= self.task.evaluation_figures(self.model)
            entry |= {
                f"{prefix}_{name}": value
                for name, value in figures.items()
                if math.isfinite(value)  # JSON has no infinity
            }
        return entry


class Record(keras.callbacks.Callback):
    """Writes each epoch to `metrics.jsonl` and TensorBoard, and checkpoints.

    Args:
        report: The run's `EpochReport`, which comes before this in the callbacks.
        folder: `runs.RunFolder`.
        checkpoints: `checkpoints.Checkpoints`.
        progress: The run's `checkpoints.Progress`.
        checkpoint_every_steps: Int, steps from one checkpoint inside an epoch to the
            next, or None for none.
        signals: `signals.Signals`; one that has come ends the run after a checkpoint.
    """

    def __init__(
        self, report, folder, checkpoints, progress, checkpoint_every_steps, signals
    ):
        super().__init__()
        self.report = report
        self.folder = folder
        self.checkpoints = checkpoints
        self.progress = progress
        self.checkpoint_every_steps = checkpoint_every_steps
        self.signals = signals
        self.writers = {}

    def on_train_begin(self, logs=None):
        self.signals.check()  # no step is traced for a signal that came before

    def on_epoch_begin(self, epoch, logs=None):
        self.checkpoints.restore_metrics()  # `fit` has just reset them

    def on_train_batch_end(self, batch, logs=None):
        every = self.checkpoint_every_steps
        if replicas.is_multi_worker(replicas.strategy_of(self.model)):
            self.signals.check()  # workers hear of it in different steps: no checkpoint
        if self.signals.received or (every and self.progress.batches % every == 0):
            self._checkpoint()

    def on_epoch_end(self, epoch, logs=None):
        self.progress.history.append(self.report.entry)
        self.progress.batches, self.progress.seconds = 0, 0.0
        if self.checkpoints.writes:
            with self.folder.writing():
                self.write_metrics()
                self._write_summaries(self.report.entry)
        self._checkpoint()

    def on_train_end(self, logs=None):
        for writer in self.writers.values():
            writer.close()
        self.writers = {}

    def _checkpoint(self):
        self.model.look()  # or a resumed run would pass over a step that failed
        with self.folder.writing():
            self.checkpoints.save(self.progress)
        self.folder.started()
        self.signals.check()

    def write_metrics(self):
        """Writes the entries of all completed epochs."""
        files.write_atomically(
            self.metrics_path, lambda path: path.write_text(self._lines())
        )

    def metrics_are_whole(self):
        """Whether the file has the entries so far; it may be an epoch ahead."""
        try:
            return self.metrics_path.read_text().startswith(self._lines())
        except (OSError, UnicodeDecodeError):
            return False

    @property
    def metrics_path(self):
        return self.folder.path / "metrics.jsonl"

    def _lines(self):
        return "".join(json.dumps(entry) + "\n" for entry in self.progress.history)

    def _write_summaries(self, entry):
        """One TensorBoard run per split, so that curves of a name share a chart."""
        for name, value in entry.items():
            split, _, rest = name.partition("_")
            split, name = (split, rest) if split in EVALUATIONS else ("train", name)
            if split not in self.writers:
                path = str(self.folder.path / "summaries" / split)
                self.writers[split] = tf.summary.create_file_writer(path)
            with self.writers[split].as_default(step=entry["epoch"]):
                tf.summary.scalar(name, value)
        for writer in self.writers.values():
            writer.flush()
