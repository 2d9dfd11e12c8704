# SPDX-License-Identifier: Apache-2.0
"""The published results of the 32 runs, and how the results here agree with them.

`published.tsv` has the final and the best test accuracy of one run each: ResNet-32, 250
epochs, as released by the authors of DeepNCM (Guerriero, Caputo, Mensink 2018).
"""

import csv
import pathlib

from scipy import stats

PARAMETERS = {"condensation": "condensation_steps", "decay": "decay"}


def read(path=None):
    """The published results of the 32 runs, as fractions.

    Returns:
        Dictionary from `setting` to a dictionary with `best` and `final`.
    """
    path = path or pathlib.Path(__file__).with_name("published.tsv")
    with pathlib.Path(path).open(newline="") as file:
        return {
            setting(row): {
                "best": float(row["best_percent"]) / 100,
                "final": float(row["final_percent"]) / 100,
            }
            for row in csv.DictReader(file, delimiter="\t")
        }


def setting(flags):
    """What a published result belongs to: dataset, method, its parameter, learning rate."""
    parameter = flags.get(PARAMETERS.get(flags["ncm"], ""))
    return (
        flags["dataset"],
        flags["ncm"],
        float(parameter) if parameter else None,
        float(flags["learning_rate"]),
    )


def rank_correlations(runs, published):
    """Spearman's rank correlation of our final accuracies with the published ones.

    Args:
        runs: List of finished runs.
        published: Dictionary as from `read`.

    Returns:
        Dictionary from dataset to (correlation, number of runs).
    """
    found = {}
    for dataset in sorted({run["flags"]["dataset"] for run in runs}):
        ours, theirs = pairs(runs, published, dataset)
        if len(ours) > 2:
            found[dataset] = (float(stats.spearmanr(ours, theirs).statistic), len(ours))
    return found


def pairs(runs, published, dataset):
    """Final accuracies of runs on a dataset, here and as published: two equal lists."""
    both = [
        (run["final_test_accuracy"], published[setting(run["flags"])]["final"])
        for run in runs
        if run["flags"]["dataset"] == dataset and setting(run["flags"]) in published
    ]
    return [ours for ours, _ in both], [theirs for _, theirs in both]
