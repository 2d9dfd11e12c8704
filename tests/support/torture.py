# SPDX-License-Identifier: Apache-2.0
"""Kills runs at named points and compares what comes of them with uninterrupted runs.

    python tests/support/torture.py                   # or: make torture
    python tests/support/torture.py --methods=nca,dnc

For each case, a method and maybe flags: one run without interruption; then the same run in
another folder, ended by a signal again and again, and started again. The number of batches
of an epoch, whether the run ends inside an epoch and, for each start, the steps between
checkpoints are drawn. At the end both runs must have the same weights, `result.json` and,
apart from times, `metrics.jsonl` and TensorBoard's scalars, to the bit.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile

import numpy as np
from killing import Plan

from deepncm_tf import flags

HERE = pathlib.Path(__file__).parent
TIMES = ("seconds", "images_per_second")
BATCH_SIZE = 32
EPOCHS = 12
KILL, TERM = signal.SIGKILL, signal.SIGTERM
STATUSES = {-KILL: KILL, 128 + TERM: TERM}
# In any order; then those at the end of the run, in the order in which all take effect.
INSIDE = (
    *(("step", KILL), ("step", KILL), ("step", TERM)),
    *(("epoch's step", KILL), ("epoch's step", TERM)),
    *(("checkpoint", KILL), ("checkpoint", KILL)),
    *(("evaluation", KILL), ("evaluation", TERM)),
)
AT_END = (
    *(("run's step", KILL), ("run's step", TERM)),
    *(("run's evaluation", KILL), ("run's evaluation", TERM)),
    *(("final", KILL), ("final", KILL)),
)
PHASES = tuple(dict.fromkeys(phase for phase, _ in INSIDE + AT_END))
TWO_DEVICES = ("--distribution_strategy=mirrored", "--num_devices=2")
FEW_FEATURES = {"ranpac": ("--random_features=20",)}  # a refresh takes M^3
IN_PARTS = ("--accumulate_steps=3", "--dtype=fp16")


@dataclasses.dataclass
class Case:
    """A method, flags, and the network: `"small"` or `"resnet"`."""

    method: str
    flags: tuple = ()
    network: str = "small"


CASES = (
    *(Case(method, FEW_FEATURES.get(method, ())) for method in flags.METHODS),
    Case("condensation", network="resnet"),
    *(Case(method, IN_PARTS) for method in ("dnc", "nca")),
    Case("dnc", TWO_DEVICES),
    Case("nca", (*TWO_DEVICES, "--bank_sharding")),
)


def start(folder, case, plan, every, epochs):
    """Runs `killing.py`; returns the number of the signal that ended it, or 0."""
    command = [
        *(sys.executable, HERE / "killing.py", json.dumps(dataclasses.asdict(plan))),
        *("--dataset=digits", f"--ncm={case.method}", f"--train_epochs={epochs}"),
        *(f"--max_train_steps={plan.steps}", f"--checkpoint_every_steps={every}"),
        *(*case.flags, f"--model_dir={folder}"),
    ]
    outcome = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )
    if outcome.returncode not in (0, *STATUSES):
        raise RuntimeError(outcome.stderr[-2000:])
    return STATUSES.get(outcome.returncode, 0)


def contents(folder):
    """What must be the same: metrics without times, the result, and the weights."""
    import keras

    from deepncm_tf import DeepNCM  # noqa: F401  registers the classes of the model

    lines = (folder / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    model = keras.models.load_model(folder / "model.keras")
    return {
        "metrics.jsonl": [
            {k: v for k, v in entry.items() if k not in TIMES} for entry in entries
        ],
        "result.json": (folder / "result.json").read_bytes(),
        "weights": [(w.dtype, w.shape, w.tobytes()) for w in model.get_weights()],
        "summaries": summaries(folder),
    }


def summaries(folder):
    """TensorBoard's scalars without times; an epoch may be there twice, but not differ."""
    import tensorflow as tf

    found = set()
    for path in (folder / "summaries").glob("*/*"):
        try:
            for event in tf.compat.v1.train.summary_iterator(str(path)):
                for value in event.summary.value:
                    number = np.asarray(tf.make_ndarray(value.tensor)).item()
                    found.add((path.parent.name, value.tag, event.step, number))
        except tf.errors.DataLossError:
            continue  # killed inside a write: the epoch came again, in another file
    return {scalar for scalar in found if scalar[1] not in TIMES}


def differences(one, other):
    """Names of what differs between two runs' folders."""
    a, b = contents(one), contents(other)
    return [name for name in a if a[name] != b[name]]


def draw_length(rng, epochs):
    """Images, batches of an epoch and steps of a run, which may end inside an epoch."""
    batches = rng.randint(1, 10)
    images = BATCH_SIZE * (batches - 1) + rng.randint(1, BATCH_SIZE)
    left_out = rng.choice((0, rng.randrange(batches)))
    return {"images": images, "batches": batches, "steps": epochs * batches - left_out}


def draw_plans(rng, inside, at_end, length, network):
    """The signals of a case, in the order in which they are sent."""
    most = {"step": min(4, length["batches"]), "checkpoint": 2, "final": 2}
    for phase, signum in [*rng.sample(inside, len(inside)), *at_end]:
        count = rng.randint(1, most.get(phase, 1))
        yield Plan(phase, count, signum, rng.randrange(10**6), network=network, **length)


def torture(folder, case, inside=INSIDE, at_end=AT_END, seed=0, epochs=EPOCHS):
    """Ends one case's run as often as the phases say, then lets it come to its end.

    Returns:
        `(counts, different)`: signals that took effect by phase, and what then differs.
    """
    rng = random.Random(seed)
    length = draw_length(rng, epochs)
    batches = length["batches"]

    def every():  # each step, the last of an epoch (alone or with others), or any
        divisors = [n for n in range(1, batches + 1) if batches % n == 0]
        return rng.choice((1, batches, rng.choice(divisors), rng.randint(1, batches)))

    plain = Plan(network=case.network, **length)
    start(folder / "whole", case, plain, every(), epochs)
    counts = collections.Counter()
    for plan in draw_plans(rng, inside, at_end, length, case.network):
        ended_by = start(folder / "killed", case, plan, every(), epochs)
        counts[plan.phase] += ended_by == plan.signum
    start(folder / "killed", case, plain, every(), epochs)
    return counts, differences(folder / "whole", folder / "killed")


def torture_in_folder(case, seed):
    with tempfile.TemporaryDirectory() as folder:
        return torture(pathlib.Path(folder), case, seed=seed)


def row(*cells):
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", default=",".join(flags.METHODS))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    cases = [case for case in CASES if case.method in arguments.methods.split(",")]
    seeds = range(arguments.seed, arguments.seed + len(cases))
    total, failed = collections.Counter(), False
    print(row("method", "flags", *PHASES, "the same to the bit"))
    print("|---" * (len(PHASES) + 3) + "|")
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        outcomes = pool.map(torture_in_folder, cases, seeds)
        for case, (counts, different) in zip(cases, outcomes, strict=True):
            total += counts
            failed |= bool(different)
            given = "ResNet-8" if case.network == "resnet" else f"{' '.join(case.flags)}"
            verdict = f"no: {', '.join(different)}" if different else "yes"
            numbers = [counts[phase] for phase in PHASES]
            print(row(f"`{case.method}`", given, *numbers, verdict), flush=True)
    numbers = [total[phase] for phase in PHASES]
    print(row("all", "", *numbers, f"{total.total()} kills"))
    planned = len(cases) * len(INSIDE + AT_END)
    # A strike after some milliseconds may come too late where the machine is busy.
    sys.exit(failed or total.total() < 0.9 * planned or min(numbers) == 0)


if __name__ == "__main__":
    main()
