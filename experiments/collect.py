# SPDX-License-Identifier: Apache-2.0
"""Collects finished runs into tables.

    python -m experiments.collect runs --grid=experiments/demo.tsv --output=runs

reads the folders of runs (wherever they lie below the given folders, whatever they are
called) and writes `results.tsv`, `results.json` and `results.md`.
"""

import argparse
import contextlib
import csv
import io
import json
import pathlib
import statistics
import sys

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from deepncm_tf import flags, runs
from deepncm_tf.runs.config import read_stored
from deepncm_tf.utils import files

FIGURES = (
    "final_test_accuracy",
    "best_test_accuracy",
    "best_epoch",
    "epochs",
    "final_val_accuracy",
    "final_test_rmd",
)
# What `python -m deepncm_tf.evaluate` and `discover` have written into a run's folder, with
# their defaults.
EVALUATION_FILES = ("evaluation.json", "discovery.json")
EVALUATIONS = {
    "anchored_accuracy": "anchored",
    "knn_1_0.05": "kNN, k = 1",
    "knn_30_0.05": "kNN, k = 30",
    "induction_accuracy_1": "induction, k = 1",
    "induction_accuracy_30": "induction, k = 30",
    "normalized_mutual_information": "NMI",
}
NUMBERS = ("RMD", "NMI")  # the others are shares


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
    return {
        **result,
        **read_stored(folder),
        "folder": str(folder),
        "metrics": read_metrics(folder),
        "evaluation": _read_evaluation(folder),
    }


def _read_evaluation(folder):
    found = {}
    for name in EVALUATION_FILES:
        with contextlib.suppress(OSError, ValueError, TypeError):
            one = dict(json.loads((folder / name).read_text()))
            if one.get("split", "test") == "test":
                found |= one
    return found


def finished(*folders):
    """Folders of finished runs below some folders, by their `key`."""
    found = {}
    for folder in folders:
        for path in sorted(pathlib.Path(folder).rglob("result.json")):
            try:
                found.setdefault(key(read_run(path.parent)["flags"]), path.parent)
            except (OSError, ValueError, KeyError, TypeError):
                continue  # not a run's folder
    return found


def read_runs(folders):
    """`read_run` of several folders."""
    return [read_run(folder) for folder in folders]


def varied(results):
    """Names of the flags that tell the runs apart; the seed is always one.

    Of the flags of one method that all its runs share only the first tells something.
    """
    identities = [runs.flags_identity(result["flags"]) for result in results]

    def varies(name):
        first = name in flags.ALWAYS_NAMED
        values = {str(one.get(name)) for one in identities if first or name in one}
        return len(values) > 1

    always = ("dataset", "ncm", "seed")
    return [name for name in flags.TABLE if name in always or varies(name)]


def records(results):
    """One flat dictionary per run: varied flags, figures, time, versions."""
    names = varied(results)
    table = []
    for result in results:
        identity = runs.flags_identity(result["flags"])
        seconds = sum(entry["seconds"] for entry in result["metrics"])
        speeds = [entry["images_per_second"] for entry in result["metrics"]]
        table.append(
            {name: identity.get(name) for name in names}
            | {name: result.get(name) for name in FIGURES}
            | {name: result["evaluation"].get(name) for name in EVALUATIONS}
            | {
                "seconds": round(seconds, 1),
                "images_per_second": round(statistics.median(speeds)) if speeds else None,
            }
            | result["versions"]
        )
    return sorted(table, key=lambda record: [str(record[name]) for name in names])


def groups(results):
    """Runs that differ in their seed alone, together.

    Returns:
        List of (dictionary of the varied flags without the seed, list of runs).
    """
    names = [name for name in varied(results) if name != "seed"]
    found = {}
    for result in results:
        identity = runs.flags_identity(result["flags"])
        settings = {name: identity.get(name) for name in names}
        found.setdefault(json.dumps(settings), (settings, []))[1].append(result)
    return list(found.values())


def mean_and_std(values):
    """Mean and sample standard deviation (None for one value) of a list of numbers."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def _percent(values):
    mean, std = mean_and_std(values)
    return f"{mean:.2%}" if std is None else f"{100 * mean:.2f} ± {100 * std:.2f}%"


def markdown(results):
    """A Markdown table with a row per setting: mean ± standard deviation over seeds."""
    if not results:
        return "No finished runs.\n"
    columns = {
        "validation": lambda run: run.get("final_val_accuracy"),
        "final test accuracy": lambda run: run["final_test_accuracy"],
        "best": lambda run: run["best_test_accuracy"],
        **{
            title: lambda run, name=name: run["evaluation"].get(name)
            for name, title in EVALUATIONS.items()
        },
        "RMD": lambda run: run.get("final_test_rmd"),
    }
    columns = {  # those that there is something in
        title: get
        for title, get in columns.items()
        if any(get(run) is not None for run in results)
    }
    lines = []
    for settings, members in groups(results):
        if not lines:
            header = [*settings, *columns, "n"]
            lines.append("| " + " | ".join(header) + " |")
            lines.append("|" + "---|" * len(header))
        cells = ["" if value is None else f"{value}" for value in settings.values()]
        for title, get in columns.items():
            values = [get(run) for run in members if get(run) is not None]
            cells.append(_cell(title, values))
        lines.append("| " + " | ".join([*cells, str(len(members))]) + " |")
    return "\n".join(lines) + "\n"


def _cell(title, values):
    if not values:
        return ""
    return f"{statistics.fmean(values):.3f}" if title in NUMBERS else _percent(values)


def write(results, folder, name="results"):
    """Writes NAME.tsv, NAME.json and NAME.md into a folder.

    Returns:
        List of their paths.
    """
    table = records(results)
    text = io.StringIO()
    if table:
        columns = list(dict.fromkeys(column for record in table for column in record))
        writer = csv.DictWriter(text, columns, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    contents = {
        "tsv": text.getvalue(),
        "json": json.dumps(table, indent=2) + "\n",
        "md": markdown(results),
    }
    folder.mkdir(parents=True, exist_ok=True)
    written = paths(folder, name)
    for suffix, path in written.items():
        _write_text(path, contents[suffix])
    return list(written.values())


def paths(folder, name="results"):
    """Paths of the files that `write` writes, by their suffixes."""
    return {suffix: folder / f"{name}.{suffix}" for suffix in ("tsv", "json", "md")}


def _write_text(path, text):
    files.write_atomically(path, lambda temporary: temporary.write_text(text, "utf-8"))


def of_grid(rows, found):
    """The finished runs of a grid, each once.

    Args:
        rows: List of `grid.Row`.
        found: Dictionary as from `finished`.
    """
    return read_runs(found[one] for one in _keys(rows) if one in found)


def missing(rows, found):
    """Names of a grid's runs that are not finished; see `of_grid`."""
    return [run for one, run in _keys(rows).items() if one not in found]


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
                _write_text(destination / name / file, (folder / file).read_text())


def main(argv):
    from experiments import grid  # which needs this module's path to be set

    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folders", nargs="+", help="folders with runs below them")
    parser.add_argument(
        "--grid", action="append", help="take its runs alone; may be repeated"
    )
    parser.add_argument("--output", default=".", help="folder of results.*")
    parser.add_argument("--keep", help="folder to copy the runs' small files to")
    arguments = parser.parse_args(argv)
    found, output = finished(*arguments.folders), pathlib.Path(arguments.output)
    try:
        if arguments.grid:
            rows = [row for path in arguments.grid for row in grid.read(path)]
            results, absent = of_grid(rows, found), missing(rows, found)
        else:
            results, absent = read_runs(found.values()), []
        for path in arguments.grid or []:
            grid.check_outputs(path, paths(output).values())
        if arguments.keep:
            keep(results, pathlib.Path(arguments.keep))
        write(results, output)
    except (OSError, ValueError) as error:  # a GridError, too
        sys.exit(f"collect: {error}")
    print(markdown(results))
    print(f"{len(results)} finished runs; {len(absent)} missing")
    for name in absent:
        print(f"missing: {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
