# SPDX-License-Identifier: Apache-2.0
"""A training process that sends itself a signal at a named point of the program.

    python killing.py PLAN FLAG...

trains as `deepncm_tf.cifar_main FLAG...` does, on a few digits. PLAN is a `Plan` as JSON.
"""

import dataclasses
import json
import os
import pathlib
import random
import signal
import sys
import threading

TEST_IMAGES = 60


@dataclasses.dataclass
class Plan:
    """Where a process ends itself.

    Args:
        phase: `"step"`, `"epoch's step"` (the last of an epoch), `"run's step"` (the last
            of the run), `"checkpoint"` (its write), `"evaluation"`, `"run's evaluation"`
            (the last), `"final"` (the save at the end), or `"none"`.
        count: Int, the time of passing that point at which it happens.
        signum: Int, SIGKILL or SIGTERM.
        seed: Int, draws where in the phase, and after how long.
        images: Int, training images.
        batches: Int, batches of an epoch.
        steps: Int, steps of the run.
        network: `"small"`, or `"resnet"` for that of the flags.
    """

    phase: str = "none"
    count: int = 1
    signum: int = signal.SIGKILL
    seed: int = 0
    images: int = 310  # 10 batches of 32, the last one smaller
    batches: int = 10
    steps: int = 0
    network: str = "small"


class Points:
    """Sends the plan's signal at the n-th passing of its phase."""

    def __init__(self, plan):
        self.plan, self.left = plan, plan.count
        self.random = random.Random(plan.seed)
        self.at_end = self.random.random() < 0.5  # of the step, rather than before it

    def passes(self, *phases):
        """Whether this passing of a point, in some phases, is the one."""
        if self.plan.phase not in phases:
            return False
        self.left -= 1
        return self.left == 0

    def strike(self):
        os.kill(os.getpid(), self.plan.signum)

    def strike_soon(self):
        """From another thread, within the next 20 ms of work."""
        threading.Timer(self.random.uniform(0, 0.02), self.strike).start()

    def last_step_phases(self, step):
        """Which phases the end of a step, counted from 1, belongs to."""
        if step == self.plan.steps:
            return ("run's step",)
        return ("epoch's step",) if step % self.plan.batches == 0 else ()


def patch(points):
    patch_data(points)
    patch_steps(points)
    patch_evaluation(points)
    patch_writes(points)


def patch_data(points):
    from deepncm_tf.data import datasets

    load = datasets.load
    sizes = {"train": points.plan.images, "test": TEST_IMAGES}

    def load_few(*args, **kwargs):
        splits = load(*args, **kwargs)
        return {n: (x[: sizes[n]], y[: sizes[n]]) for n, (x, y) in splits.items()}

    datasets.load = load_few


def steps_done(points, progress):
    return len(progress.history) * points.plan.batches + progress.batches


def patch_steps(points):
    """A last step is struck before it, or between it and its checkpoint."""
    from deepncm_tf.runs.callbacks import Record

    def on_train_batch_begin(self, batch, logs=None):
        if points.passes("step"):
            points.strike_soon()
        phases = points.last_step_phases(steps_done(points, self.progress) + 1)
        if not points.at_end and points.passes(*phases):
            points.strike()

    on_train_batch_end = Record.on_train_batch_end

    def strike_and_record(self, batch, logs=None):
        phases = points.last_step_phases(steps_done(points, self.progress))
        if points.at_end and points.passes(*phases):
            points.strike()
        on_train_batch_end(self, batch, logs)

    Record.on_train_batch_begin = on_train_batch_begin
    Record.on_train_batch_end = strike_and_record


def patch_evaluation(points):
    from deepncm_tf.runs.callbacks import EpochReport

    evaluate = EpochReport._evaluate

    def evaluate_and_strike(self):
        last = steps_done(points, self.progress) == points.plan.steps
        if points.passes("run's evaluation" if last else "evaluation"):
            points.strike_soon()
        return evaluate(self)

    EpochReport._evaluate = evaluate_and_strike


def patch_writes(points):
    from deepncm_tf import runs
    from deepncm_tf.utils import files

    write_atomically = files.write_atomically

    def write_and_strike(path, write):
        path = pathlib.Path(path)
        phase = {"checkpoints": "checkpoint"}.get(path.parent.name)
        phase = "final" if path.name in ("model.keras", runs.SUMS) else phase
        if not points.passes(phase):
            return write_atomically(path, write)
        stage = points.random.choice(("half", "written", "renamed"))

        def write_half(temporary):
            write(temporary)
            if stage == "half":
                os.truncate(temporary, os.path.getsize(temporary) // 2)
            if stage != "renamed":
                points.strike()

        write_atomically(path, write_half)
        return points.strike()

    files.write_atomically = write_and_strike


def use_small_network():
    from helpers import small_backbone

    from deepncm_tf.runs import training

    training.cifar_resnet = lambda *args, **kwargs: small_backbone(
        (32, 32, 3), normalize=True
    )


def main():
    plan = Plan(**json.loads(sys.argv[1]))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from absl import app

    from deepncm_tf import cifar_main

    patch(Points(plan))
    if plan.network == "small":
        use_small_network()
    sys.argv[1:] = sys.argv[2:]
    app.run(cifar_main.main, flags_parser=cifar_main.parse)


if __name__ == "__main__":
    main()
