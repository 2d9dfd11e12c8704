# SPDX-License-Identifier: Apache-2.0
"""Kills runs at named points and compares what comes of them with uninterrupted runs.

    python tests/support/torture.py            # or: make torture

For each method: one run without interruption; then the same run in another folder, killed
again and again, and started again with the same command each time. At the end both must
have the same weights, `result.json` and (apart from times) `metrics.jsonl`, to the bit.
"""

import argparse
import collections
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).parent
TIMES = ("seconds", "images_per_second")
METHODS = ("softmax", "online", "condensation", "decay", "dnc", "nca")
KILLS = {"step": 4, "checkpoint": 4, "evaluation": 3, "final": 3}  # of each method


def train(folder, method, phase="none", count=0, seed=0, network="small", epochs=8):
    """Runs `killing.py`; returns its exit status, negative where a signal ended it."""
    command = [
        *(sys.executable, HERE / "killing.py", phase, count, seed, network),
        "--dataset=digits",
        f"--ncm={method}",
        f"--train_epochs={epochs}",
        "--checkpoint_every_steps=3",
        f"--model_dir={folder}",
    ]
    outcome = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )
    if outcome.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(outcome.stderr[-2000:])
    return outcome.returncode


def contents(folder):
    """What must be the same: metrics without times, the result, and the weights."""
    import keras

    from deepncm_tf import DeepNCM  # noqa: F401  registers the classes of the model

    lines = (folder / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    entries = [{k: v for k, v in entry.items() if k not in TIMES} for entry in entries]
    model = keras.models.load_model(folder / "model.keras")
    return entries, (folder / "result.json").read_bytes(), model.get_weights()


def differences(one, other):
    """Names of what differs between two runs' folders."""
    a, b = contents(one), contents(other)
    same_weights = all(np.array_equal(x, y) for x, y in zip(a[2], b[2], strict=True))
    found = {"metrics.jsonl": a[0] != b[0], "result.json": a[1] != b[1]}
    return [
        name for name, differs in {**found, "weights": not same_weights}.items() if differs
    ]


def schedule(kills, seed):
    """Kills in random order with random counts; those of the final save come last."""
    rng = random.Random(seed)
    phases = [phase for phase, n in kills.items() for _ in range(n) if phase != "final"]
    rng.shuffle(phases)
    phases += ["final"] * kills.get("final", 0)
    most = {"step": 4, "checkpoint": 2, "evaluation": 1, "final": 2}
    return [(phase, rng.randint(1, most[phase]), rng.randrange(10**6)) for phase in phases]


def torture(folder, method, kills, seed=0, **options):
    """Kills one method's run as scheduled, then lets it end.

    Returns:
        `(counts, different)`: kills that took effect by phase, and what then differs.
    """
    whole, killed = folder / f"{method}-whole", folder / f"{method}-killed"
    train(whole, method, **options)
    counts = collections.Counter()
    for phase, count, kill_seed in schedule(kills, seed):
        status = train(killed, method, phase, count, kill_seed, **options)
        counts[phase] += status == -signal.SIGKILL
    train(killed, method, **options)
    return counts, differences(whole, killed)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    total, failed = collections.Counter(), []
    print(f"| method | {' | '.join(KILLS)} | the same to the bit |")
    print("|---" * (len(KILLS) + 2) + "|")
    for number, method in enumerate(METHODS):
        with tempfile.TemporaryDirectory() as folder:
            counts, different = torture(
                pathlib.Path(folder),
                method,
                KILLS,
                seed=arguments.seed + number,
                network="resnet8",
            )
        total += counts
        failed += different
        numbers = " | ".join(str(counts[phase]) for phase in KILLS)
        verdict = f"no: {', '.join(different)}" if different else "yes"
        print(f"| `{method}` | {numbers} | {verdict} |", flush=True)
    numbers = " | ".join(str(total[phase]) for phase in KILLS)
    print(f"| all | {numbers} | {total.total()} kills |")
    sys.exit(bool(failed) or total.total() < 50 or min(total.values()) < 10)


if __name__ == "__main__":
    main()
