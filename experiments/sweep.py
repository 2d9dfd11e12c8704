# SPDX-License-Identifier: Apache-2.0
"""What a sweep has done and has yet to do; `run_experiments.sh` asks it.

python -m experiments.sweep plan GRID      the rows that are not done, for GNU Parallel
python -m experiments.sweep dry-run GRID   their command lines
python -m experiments.sweep status GRID    a table of all runs
python -m experiments.sweep report GRID    results, and why runs failed
"""

import argparse
import os
import pathlib
import shlex
import sys
import time

from experiments import collect, grid, states

LOG_LINES = 5


def parse(argv):
    parser = argparse.ArgumentParser(prog="run_experiments.sh", add_help=False)
    parser.add_argument("action", choices=sorted(ACTIONS))
    parser.add_argument("grid")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--results", default="experiments/results")
    parser.add_argument("--only")
    parser.add_argument("--watch", type=float, default=0)
    return parser.parse_args(argv)


def plan(arguments, rows):
    """Prints the rows that are not done as a table with a last column, the run's name."""
    left = [s.row for s in _states(arguments, rows) if s.status != "done"]
    columns = list(dict.fromkeys(name for row in rows for name in row.cells))
    print("\t".join([*columns, "run"]))
    for row in left:
        print("\t".join([*(row.cells.get(name, "") for name in columns), row.run]))


def dry_run(arguments, rows):
    for state in _states(arguments, rows):
        if state.status != "done":
            print(state.row.command(os.path.join(arguments.runs, state.row.run)))


def status(arguments, rows):
    """Prints the state of every run; with --watch again and again, until all are done."""
    while True:
        found = _states(arguments, rows)
        text = "\n".join([states.table(found), states.summary(found), _live(arguments)])
        print("\033[2J\033[H" + text if arguments.watch else text, flush=True)
        if not arguments.watch or all(s.status == "done" for s in found):
            return
        time.sleep(arguments.watch)


def report(arguments, rows):
    """Writes and prints the results; ends with status 1 where a run is not done."""
    found = _states(arguments, rows)
    folders = [s.folder for s in found if s.status == "done"]
    results = collect.read_runs(folders)
    written = collect.write(results, pathlib.Path(arguments.runs), _name(arguments.grid))
    print(collect.markdown(results))
    print(f"Written: {', '.join(map(str, written))}\n{_live(arguments)}")
    print(states.summary(found))
    not_done = [s for s in found if s.status != "done"]
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
        states.read_job_log(
            pathlib.Path(arguments.runs) / f"{_name(arguments.grid)}.joblog"
        ),
    )


def _name(path):
    return pathlib.Path(path).stem


def _log(arguments, row):
    return pathlib.Path(arguments.runs) / "logs" / row.run


def _live(arguments):
    return f"Curves: tensorboard --logdir {shlex.quote(arguments.runs)}"


ACTIONS = {"plan": plan, "dry-run": dry_run, "status": status, "report": report}


def main(argv):
    arguments = parse(argv)
    try:
        rows = grid.read(arguments.grid, arguments.only)
    except grid.GridError as error:
        sys.exit(f"run_experiments.sh: {error}")
    ACTIONS[arguments.action](arguments, rows)


if __name__ == "__main__":
    main(sys.argv[1:])
