# SPDX-License-Identifier: Apache-2.0
"""A training process that kills itself at a named point of the program.

    python killing.py PHASE COUNT SEED NETWORK FLAG...

trains as `deepncm_tf.cifar_main FLAG...` does, on a few digits, and sends itself SIGKILL at
the COUNT-th time that it comes to PHASE: inside a step, a checkpoint's write, an evaluation
or the final save. Where in the phase, and after how long, is drawn with SEED. PHASE `none`
trains to the end.
"""

import os
import pathlib
import random
import signal
import sys
import threading

PHASES = ("step", "checkpoint", "evaluation", "final")
SIZES = {"train": 310, "test": 60}  # 10 batches of 32, the last one smaller


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


class Points:
    """Kills at the n-th passing of the chosen phase."""

    def __init__(self, phase, count, seed):
        self.phase, self.left = phase, count
        self.random = random.Random(seed)

    def passes(self, phase):
        """Whether this passing of a phase is the one."""
        if phase != self.phase:
            return False
        self.left -= 1
        return self.left == 0

    def kill_soon(self):
        """Kills from another thread, within the next 60 ms of work."""
        threading.Timer(self.random.uniform(0, 0.06), kill).start()


def patch(points):
    from deepncm_tf import DeepNCM, callbacks, datasets, runs

    load = datasets.load

    def load_few(*args, **kwargs):
        splits = load(*args, **kwargs)
        return {n: (x[: SIZES[n]], y[: SIZES[n]]) for n, (x, y) in splits.items()}

    datasets.load = load_few

    def on_train_batch_begin(self, batch, logs=None):
        if points.passes("step"):
            points.kill_soon()

    callbacks.Record.on_train_batch_begin = on_train_batch_begin

    evaluate = DeepNCM.evaluate

    def evaluate_and_die(self, *args, **kwargs):
        if points.passes("evaluation"):
            points.kill_soon()
        return evaluate(self, *args, **kwargs)

    DeepNCM.evaluate = evaluate_and_die

    write_atomically = runs.write_atomically

    def write_and_die(path, write):
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
                kill()

        write_atomically(path, write_half)
        return kill()

    runs.write_atomically = write_and_die


def use_small_network():
    from helpers import small_backbone

    from deepncm_tf import training

    training.cifar_resnet = lambda *args, **kwargs: small_backbone(
        (32, 32, 3), normalize=True
    )


def main():
    phase, count, seed, network, *arguments = sys.argv[1:]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from absl import app

    from deepncm_tf import cifar_main

    patch(Points(phase, int(count), int(seed)))
    if network == "small":
        use_small_network()
    sys.argv[1:] = arguments
    app.run(cifar_main.main, flags_parser=cifar_main.parse)


if __name__ == "__main__":
    main()
