# SPDX-License-Identifier: Apache-2.0
"""Tables of finished runs: a record for each, and means over seeds in Markdown."""

import csv
import io
import json
import re
import statistics

from deepncm_tf import flags, runs
from deepncm_tf.utils import files

FIGURES = (
    "final_test_accuracy",
    "best_test_accuracy",
    "best_epoch",
    "epochs",
    "final_val_accuracy",
    "final_test_rmd",
    "initial_test_accuracy",
)
PIXEL_FIGURES = ("final_test_mean_iou", "best_test_mean_iou", "final_spread")
# Of EVALUATION_FILES, with the titles of their columns.
EVALUATIONS = {
    "anchored_accuracy": "anchored",
    "knn_1_0.05": "kNN, k = 1",
    "knn_30_0.05": "kNN, k = 30",
    "induction_accuracy_1": "induction, k = 1",
    "induction_accuracy_30": "induction, k = 30",
    "backbone_induction_accuracy_1": "by the backbone, k = 1",
    "backbone_induction_accuracy_30": "by the backbone, k = 30",
    "normalized_mutual_information": "NMI",
}
NUMBERS = {  # the others are shares
    "RMD": ".3f",
    "NMI": ".3f",
    "spread": ".3f",
    "seconds / epoch": ".0f",
    "learnt": ",.0f",
    "class state": ",.0f",
}


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
        seconds = [entry["seconds"] for entry in result["metrics"]]
        speeds = [entry["images_per_second"] for entry in result["metrics"]]
        table.append(
            {name: identity.get(name) for name in names}
            | {name: result.get(name) for name in FIGURES}
            | {name: result[name] for name in PIXEL_FIGURES if name in result}
            | {name: result["evaluation"].get(name) for name in EVALUATIONS}
            | {
                "seconds": round(sum(seconds), 1),
                "images_per_second": round(statistics.median(speeds)) if speeds else None,
            }
            | result["versions"]
        )
    return sorted(table, key=lambda record: [str(record[name]) for name in names])


def groups(results):
    """Runs that differ in their seed alone, or in that of a run they begin with, together.

    Returns:
        List of (dictionary of the varied flags without the seed, list of runs).
    """
    names = [name for name in varied(results) if name != "seed"]
    by_settings = {}
    for result in results:
        identity = runs.flags_identity(result["flags"])
        settings = {name: identity.get(name) for name in names}
        if source := settings.get("init_from"):
            # What the names of runs of other seeds have in common.
            settings["init_from"] = re.sub(r"_seed=\d+(?=_|$)", "", source)
        by_settings.setdefault(json.dumps(settings), (settings, []))[1].append(result)
    return list(by_settings.values())


def mean_and_std(values):
    """Mean and sample standard deviation (None for one value) of a list of numbers."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def _percent(values):
    mean, std = mean_and_std(values)
    return f"{mean:.2%}" if std is None else f"{100 * mean:.2f} ± {100 * std:.2f}%"


def markdown(results):
    """A Markdown table with a row per setting: mean ± standard deviation over seeds.

    A figure that not all runs of a row have says how many have it.
    """
    if not results:
        return "No finished runs.\n"
    columns = {
        "before training": lambda run: run.get("initial_test_accuracy"),
        "validation": lambda run: run.get("final_val_accuracy"),
        "mean IoU": lambda run: run.get("final_test_mean_iou"),
        "final test accuracy": lambda run: run["final_test_accuracy"],
        "best": lambda run: run["best_test_accuracy"],
        **{
            title: lambda run, name=name: run["evaluation"].get(name)
            for name, title in EVALUATIONS.items()
        },
        "RMD": lambda run: run.get("final_test_rmd"),
        "spread": lambda run: run.get("final_spread"),
        "seconds / epoch": _seconds_per_epoch,
        "learnt": lambda run: run["evaluation"].get("learnable_parameters"),
        "class state": lambda run: run["evaluation"].get("class_state"),
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
            cell = _cell(title, values)
            if 0 < len(values) < len(members):
                cell += f" ({len(values)} of {len(members)})"
            cells.append(cell)
        lines.append("| " + " | ".join([*cells, str(len(members))]) + " |")
    return "\n".join(lines) + "\n"


def _seconds_per_epoch(run):
    """Median of the training's seconds; one epoch may be short where a run was resumed."""
    seconds = [entry["seconds"] for entry in run["metrics"]]
    return statistics.median(seconds) if seconds else None


def _cell(title, values):
    if not values:
        return ""
    if title in NUMBERS:
        return format(statistics.fmean(values), NUMBERS[title])
    return _percent(values)


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
        files.write_text(path, contents[suffix])
    return list(written.values())


def paths(folder, name="results"):
    """Paths of the files that `write` writes, by their suffixes."""
    return {suffix: folder / f"{name}.{suffix}" for suffix in ("tsv", "json", "md")}
