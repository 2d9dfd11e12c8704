# SPDX-License-Identifier: Apache-2.0
"""Collects finished runs into tables.

    python -m experiments.collect runs --grid=experiments/demo.tsv --output=runs

reads the folders of runs (wherever they lie below the given folders, whatever they are
called) and writes `results.tsv`, `results.json` and `results.md`.
"""

import argparse
import contextlib
import json
import pathlib
import sys

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from deepncm_tf import flags, runs
from deepncm_tf.runs.config import read_stored
from deepncm_tf.utils import files

# What `python -m deepncm_tf.evaluate` and `discover` have written into a run's folder.
EVALUATION_FILES = ("evaluation.json", "discovery.json")
# Figures of other settings are of something else than the columns of the tables say.
EVALUATION_DEFAULTS = {"split": "test", "bank": None, "temperature": 0.05}


def key(config):
    """What tells runs apart, as text: the identity of a config."""
    return json.dumps(runs.flags_identity(config), sort_keys=True)


def read_metrics(folder):
    """The entries of a run's epochs; empty where there are none.

    Args:
        folder: Path of the run's folder.
    """
    try:
        lines = (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines if line]
    except (OSError, ValueError):
        return []


def read_run(folder):
    """Reads the folder of a finished run.

    Returns:
        Dictionary: `flags`, `versions` and `environment` of its config;
        `metrics` (a list with a dictionary per epoch), `evaluation` (of `evaluation.json`
        and `discovery.json`, where they are), and what is in `result.json`.

    Raises:
        OSError, ValueError, KeyError, TypeError: If it is not such a folder.
    """
    folder = pathlib.Path(folder)
    result = json.loads((folder / "result.json").read_text())
    if "final_test_accuracy" not in result:
        raise ValueError(f"{folder / 'result.json'} is not that of a finished run")
    return {
        **result,
        **read_stored(folder),
        "folder": str(folder),
        "metrics": read_metrics(folder),
        "evaluation": _read_evaluation(folder),
    }


def _read_evaluation(folder):
    figures = {}
    for name in EVALUATION_FILES:
        with contextlib.suppress(OSError, ValueError, TypeError):
            content = dict(json.loads((folder / name).read_text()))
            defaults = EVALUATION_DEFAULTS.items()
            if all(content.get(name, value) == value for name, value in defaults):
                figures |= content
    return figures


def finished(*folders):
    """Folders of finished runs below some folders, by their `key`."""
    by_key = {}
    for folder in folders:
        for path in sorted(pathlib.Path(folder).rglob("result.json")):
            try:
                by_key.setdefault(key(read_run(path.parent)["flags"]), path.parent)
            except (OSError, ValueError, KeyError, TypeError):
                continue  # not a run's folder
    return by_key


def read_runs(folders):
    """`read_run` of several folders."""
    return [read_run(folder) for folder in folders]


def of_grid(rows, by_key):
    """The finished runs of a grid, each once.

    Args:
        rows: List of `grid.Row`.
        found: Dictionary as from `finished`.
    """
    return read_runs(by_key[run_key] for run_key in _keys(rows) if run_key in by_key)


def missing(rows, by_key):
    """Names of a grid's runs that are not finished; see `of_grid`."""
    return [run for run_key, run in _keys(rows).items() if run_key not in by_key]


def _keys(rows):
    return {key(row.config): row.run for row in rows}


def keep(results, destination):
    """Copies the small files of finished runs, to be committed.

    The folder's own path is not kept in them: `model_dir` becomes the run's name.

    Raises:
        ValueError: If a run would be replaced by its own copy.
    """
    names = [flags.run_name(runs.flags_identity(result["flags"])) for result in results]
    for result, name in zip(results, names, strict=True):
        if (destination / name).exists() and (destination / name).samefile(
            result["folder"]
        ):
            raise ValueError(
                "--keep must be another folder than that of the runs. Received: "
                f"--keep={destination}, which has {name}"
            )
    for result, name in zip(results, names, strict=True):
        config = {"flags": {**result["flags"], "model_dir": name}}
        config["versions"] = result["versions"]
        if result["environment"]:
            config["environment"] = result["environment"]
        (destination / name).mkdir(parents=True, exist_ok=True)
        files.write_json(destination / name / "config.json", config)
        folder = pathlib.Path(result["folder"])
        for file in ("metrics.jsonl", "result.json", *EVALUATION_FILES):
            if (folder / file).exists():
                files.write_text(destination / name / file, (folder / file).read_text())


def _finished_runs(folders):
    """As `finished`; raises a ValueError where there are none, to keep earlier tables."""
    by_key = finished(*folders)
    if not by_key:
        raise ValueError(
            f"FOLDERS must have finished runs below them. Received: {' '.join(folders)}"
        )
    return by_key


def main(argv):
    from experiments import grid, tables  # which need this module's path to be set

    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folders", nargs="+", help="folders with runs below them")
    parser.add_argument(
        "--grid", action="append", help="take its runs alone; may be repeated"
    )
    parser.add_argument("--output", default=".", help="folder of results.*")
    parser.add_argument("--keep", help="folder to copy the runs' small files to")
    arguments = parser.parse_args(argv)
    output = pathlib.Path(arguments.output)
    try:
        by_key = _finished_runs(arguments.folders)
        if arguments.grid:
            rows = [row for path in arguments.grid for row in grid.read(path)]
            results, absent = of_grid(rows, by_key), missing(rows, by_key)
        else:
            results, absent = read_runs(by_key.values()), []
        for path in arguments.grid or []:
            grid.check_outputs(path, tables.paths(output).values())
        if arguments.keep:
            keep(results, pathlib.Path(arguments.keep))
        tables.write(results, output)
    except (OSError, ValueError) as error:  # a GridError, too
        sys.exit(f"collect: {error}")
    print(tables.markdown(results))
    print(f"{len(results)} finished runs; {len(absent)} missing")
    for name in absent:
        print(f"missing: {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
