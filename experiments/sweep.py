# SPDX-License-Identifier: Apache-2.0
"""What a sweep has done and has yet to do; `run_experiments.sh` asks it.

python -m experiments.sweep plan GRID      the rows that are not done, for GNU Parallel
python -m experiments.sweep dry-run GRID   their command lines
python -m experiments.sweep status GRID    a table of all runs
python -m experiments.sweep report GRID    results, and why runs failed
"""

import argparse
import contextlib
import os
import pathlib
import re
import shlex
import sys
import time

from experiments import collect, grid, states, tables

LOG_LINES = 5
RESULTS = re.compile(r".*\.(joblog|results\.[^.]*)")


def parse(argv):
    parser = argparse.ArgumentParser(prog="run_experiments.sh", add_help=False)
    parser.add_argument("action", choices=sorted(ACTIONS))
    parser.add_argument("grid")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--results", default="experiments/results")
    parser.add_argument("--only")
    parser.add_argument("--python", default=sys.executable, help="of the jobs")
    parser.add_argument("--watch", type=float, default=0)
    return parser.parse_args(argv)


def plan(arguments, rows):
    """Prints the rows that are not done as a table: flags, run's name, log, Python.

    Makes the folder of the logs, and the job log one that can be continued.
    """
    with _folder(arguments):
        (pathlib.Path(arguments.runs) / "logs").mkdir(parents=True, exist_ok=True)
        states.mend_job_log(_job_log(arguments))
    left = [s.row for s in _states(arguments, rows) if s.status != "done"]
    columns = list(dict.fromkeys(name for row in rows for name in row.cells))
    print("\t".join([*columns, "model_dir", "run", "log", "python"]))
    for row in left:
        cells = [row.cells.get(name, "") for name in columns]
        folder, log = os.path.join(arguments.runs, row.run), str(_log(arguments, row))
        print("\t".join([*cells, folder, row.run, log, arguments.python]))


def dry_run(arguments, rows):
    for state in _states(arguments, rows):
        if state.status != "done":
            print(state.row.command(os.path.join(arguments.runs, state.row.run)))


def status(arguments, rows):
    """Prints the state of every run; with --watch again and again, until all are done."""
    while True:
        run_states = _states(arguments, rows)
        text = "\n".join(
            [states.table(run_states), states.summary(run_states), _live(arguments)]
        )
        print("\033[2J\033[H" + text if arguments.watch else text, flush=True)
        if not arguments.watch or all(s.status == "done" for s in run_states):
            return
        time.sleep(arguments.watch)


def report(arguments, rows):
    """Writes and prints the results; ends with status 1 where a run is not done."""
    run_states = _states(arguments, rows)
    folders = [s.folder for s in run_states if s.status == "done"]
    results = collect.read_runs(folders)
    written = tables.write(results, pathlib.Path(arguments.runs), _results(arguments))
    print(tables.markdown(results))
    print(f"Written: {', '.join(map(str, written))}\n{_live(arguments)}")
    print(states.summary(run_states))
    not_done = [s for s in run_states if s.status != "done"]
    for state in not_done:
        print(f"\n{state.row.run}: {state.status}", file=sys.stderr)
        for line in states.last_lines(_log(arguments, state.row), LOG_LINES):
            print(f"    {line}", file=sys.stderr)
    sys.exit(1 if not_done else 0)


def _states(arguments, rows):
    return states.find(
        rows,
        arguments.runs,
        collect.finished(arguments.results),
        states.read_job_log(_job_log(arguments)),
    )


def check(arguments, rows):
    """Refuses a folder that cannot hold the runs, and outputs that would replace the grid.

    Raises:
        GridError: In these cases.
    """
    if grid.CONTROL.search(arguments.runs):
        raise grid.GridError(
            "--runs must be a folder's name without tabs and line breaks. Received: "
            f"--runs={arguments.runs!r}"
        )
    with _folder(arguments), contextlib.suppress(FileNotFoundError):
        os.listdir(arguments.runs)
    if RESULTS.fullmatch(pathlib.Path(arguments.grid).name):
        raise grid.GridError(
            "GRID must not be named *.results.* or *.joblog, which are names of outputs. "
            f"Received: {arguments.grid}"
        )
    logs = [_log(arguments, row) for row in rows]
    results = tables.paths(pathlib.Path(arguments.runs), _results(arguments)).values()
    grid.check_outputs(arguments.grid, [*logs, *results, _job_log(arguments)])


@contextlib.contextmanager
def _folder(arguments):
    try:
        yield
    except OSError as error:
        raise grid.GridError(
            f"--runs must be a folder that can be written ({error.strerror}). Received: "
            f"--runs={arguments.runs}"
        ) from error


def _name(arguments):
    return pathlib.Path(arguments.grid).name.removesuffix(".tsv")


def _results(arguments):
    return f"{_name(arguments)}.results"


def _job_log(arguments):
    return pathlib.Path(arguments.runs) / f"{_name(arguments)}.joblog"


def _log(arguments, row):
    return pathlib.Path(arguments.runs) / "logs" / row.run


def _live(arguments):
    return f"Curves: tensorboard --logdir {shlex.quote(arguments.runs)}"


ACTIONS = {"plan": plan, "dry-run": dry_run, "status": status, "report": report}


def main(argv):
    arguments = parse(argv)
    try:
        rows = grid.read(arguments.grid, arguments.only)
        check(arguments, rows)
        ACTIONS[arguments.action](arguments, rows)
    except (grid.GridError, OSError) as error:
        sys.exit(f"run_experiments.sh: {error}")


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="surrogateescape")  # paths may be no text
    main(sys.argv[1:])
