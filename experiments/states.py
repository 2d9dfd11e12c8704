# SPDX-License-Identifier: Apache-2.0
"""The state of each run of a grid, from the files of the runs and GNU Parallel's log."""

import contextlib
import dataclasses
import math
import pathlib
import re

from deepncm_tf import flags, runs
from deepncm_tf.utils import locks
from experiments import collect
from experiments.grid import Row

BATCHES = ("dataset", "known_classes", "validation_fraction", "batch_size")  # flags


@dataclasses.dataclass(frozen=True)
class State:
    """State of a run.

    Attributes:
        row: The grid's row.
        status: "done", "running", "failed" or "left".
        folder: Path of the run's folder.
        entries: List of dictionaries, one per completed epoch.
    """

    row: Row
    status: str
    folder: pathlib.Path
    entries: list


def find(rows, runs_dir, finished, exit_values):
    """Finds the state of each row.

    A run is done where there is its `result.json`, whatever any log says.

    Args:
        rows: List of `Row`.
        runs_dir: Folder of the runs' folders.
        finished: Dictionary of runs finished elsewhere, as from `collect.finished`.
        exit_values: Dictionary of the last exit value of each run that was started.

    Returns:
        List of `State`.
    """
    found = []
    for row in rows:
        folder = pathlib.Path(runs_dir) / row.run
        if not _is_done(folder, row) and (other := finished.get(collect.key(row.config))):
            folder = other
        if _is_done(folder, row):
            status = "done"
        elif _is_running(folder):
            status = "running"
        else:
            status = "failed" if exit_values.get(row.run) else "left"
        found.append(State(row, status, folder, collect.read_metrics(folder)))
    return found


def _is_done(folder, row):
    try:
        stored = collect.read_run(folder)["flags"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return runs.flags_identity(stored) == flags.identity(row.config)


def _is_running(folder):
    with contextlib.suppress(OSError), (folder / runs.LOCK).open() as lock:
        return not locks.try_lock(lock, shared=True)
    return False


def read_job_log(path):
    """Dictionary of each run's last exit value in GNU Parallel's job log; empty without."""
    exit_values = {}
    with contextlib.suppress(OSError):
        # A last line without an end was cut short.
        for line in pathlib.Path(path).read_text(errors="replace").split("\n")[:-1]:
            columns = line.split("\t", 8)
            run = re.search(r"--model_dir=(?:.*/)?([^/]+?)'?$", columns[-1])
            if run and len(columns) == 9:  # not a header
                with contextlib.suppress(ValueError):  # not GNU Parallel's line
                    exit_values[run[1]] = int(columns[6]) or int(columns[7])
    return exit_values


def mend_job_log(path):
    """Cuts off a last line without an end, of a driver that was killed while it wrote."""
    with contextlib.suppress(FileNotFoundError), pathlib.Path(path).open("r+b") as file:
        text = file.read()
        if text and not text.endswith(b"\n"):
            file.truncate(text.rfind(b"\n") + 1)


def table(states):
    """A text table of the runs."""
    width = max(len(state.row.run) for state in states)
    lines = [f"{'run':{width}}  state    epochs   test accuracy"]
    for state in states:
        epochs = f"{len(state.entries)}/{_epochs(state, states)}"
        last = next((e for e in reversed(state.entries) if "test_accuracy" in e), None)
        accuracy = f"{last['test_accuracy']:.2%}" if last else ""
        lines.append(
            f"{state.row.run:{width}}  {state.status:7}  {epochs:>7}  {accuracy:>7}"
        )
    return "\n".join(line.rstrip() for line in lines)


def summary(states):
    """One line: how many runs are in each state, and how long the rest will take."""
    counts = dict.fromkeys(("done", "running", "failed", "left"), 0)
    for state in states:
        counts[state.status] += 1
    text = f"{len(states)} runs: " + ", ".join(f"{n} {name}" for name, n in counts.items())
    seconds = seconds_left(states)
    return text if seconds is None else f"{text}; about {_duration(seconds)} to go"


def seconds_left(states):
    """Estimate of the time to the end of the sweep, in seconds.

    The epochs to come, each as long as those of the same dataset took on average, shared
    by as many runs as are running now (at least one).

    Returns:
        Number, or None where all is done or no epoch was completed yet.
    """
    times = {}
    for state in states:
        recorded = [entry["seconds"] for entry in state.entries if "seconds" in entry]
        times.setdefault(state.row.config["dataset"], []).extend(recorded)
    recorded = [seconds for some in times.values() for seconds in some]
    unfinished = [state for state in states if state.status != "done"]
    if not unfinished or not recorded:
        return None
    running = max(1, sum(state.status == "running" for state in states))

    def mean(values):
        return sum(values) / len(values)

    return sum(
        (_epochs(state, states) - len(state.entries))
        * mean(times[state.row.config["dataset"]] or recorded)
        for state in unfinished
    ) / min(running, len(unfinished))


def last_lines(path, number):
    """The last lines of a text file, without blank ones; empty where there is no file."""
    with contextlib.suppress(OSError):
        lines = pathlib.Path(path).read_text(errors="replace").splitlines()
        return [line for line in lines if line.strip()][-number:]
    return []


def _epochs(state, states):
    """Epochs that a run has in all.

    With `--max_train_steps` those that it has begun at its end, as far as a run on the same
    batches tells how many steps an epoch has.
    """
    config = state.row.config
    if config["max_train_steps"] is None:
        return config["train_epochs"]
    if state.status == "done":
        return len(state.entries)
    for other in states:
        if any(other.row.config.get(name) != config.get(name) for name in BATCHES):
            continue
        if steps := other.entries and other.entries[0].get("step"):
            return min(math.ceil(config["max_train_steps"] / steps), config["train_epochs"])
    return config["train_epochs"]


def _duration(seconds):
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"
