# SPDX-License-Identifier: Apache-2.0
"""Compares two settings of a grid in pairs of runs with the same seed.

    python -m experiments.compare experiments/methods.tsv 'ncm==dnc' 'ncm==softmax' \\
      --only 'dataset==cifar10'

prints the pairs, the mean of their differences, first minus second, and its 95 % interval
by Student's t: differences of seeds are taken to be normal.
"""

import argparse
import pathlib
import statistics
import sys

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from scipy import stats

from experiments import collect, grid

FIGURES = ("final_test_mean_iou", "final_test_accuracy")  # the first that runs have


def by_seed(results, name):
    """Figures of runs by their seed.

    Args:
        results: List of runs, as from `collect.read_runs`.
        name: String, a number of `result.json`, `evaluation.json` or `discovery.json`.

    Returns:
        Dictionary from seed to figure.

    Raises:
        ValueError: If two runs have the same seed, or a run has no such figure.
    """
    figures = {}
    for result in results:
        seed, figure = result["flags"]["seed"], (result["evaluation"] | result).get(name)
        if not isinstance(figure, int | float):
            raise ValueError(
                f"--figure must be a number that all runs have. Received: --figure={name}, "
                f"which {result['folder']} does not have"
            )
        if seed in figures:
            raise ValueError(
                "Each of the two conditions, with --only, must select one run of a seed. "
                f"Received: conditions by which seed {seed} has more than one"
            )
        figures[seed] = figure
    return figures


def interval(differences, confidence=0.95):
    """Interval that holds the mean with a confidence, by Student's t.

    Args:
        differences: List of at least two numbers.
        confidence: Float from 0 to 1.

    Returns:
        `(low, high)`.
    """
    mean, error = statistics.fmean(differences), stats.sem(differences)
    reach = error * stats.t.ppf((1 + confidence) / 2, len(differences) - 1)
    return float(mean - reach), float(mean + reach)


def markdown(first, second):
    """The pairs of two dictionaries as from `by_seed`, and what they say, as text.

    Raises:
        ValueError: If no seed is in both.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        raise ValueError(
            "Finished runs of the two conditions must have seeds in common. Received: "
            f"seeds {sorted(first)} and {sorted(second)}"
        )
    differences = [100 * (first[seed] - second[seed]) for seed in seeds]
    lines = ["| seed | first | second | difference |", "|---|---|---|---|"]
    for seed, points in zip(seeds, differences, strict=True):
        cells = f"{100 * first[seed]:.2f} | {100 * second[seed]:.2f} | {points:+.2f}"
        lines.append(f"| {seed} | {cells} |")
    count = "1 pair" if len(seeds) == 1 else f"{len(seeds)} pairs"
    said = f"{statistics.fmean(differences):+.2f} points, {count} of runs"
    if len(seeds) > 1:
        low, high = interval(differences)
        said += f", 95 % interval {low:+.2f} to {high:+.2f}"
    return "\n".join([*lines, "", said])


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("grid")
    parser.add_argument("first", help="a condition such as 'ncm==dnc'")
    parser.add_argument("second", help="what it is compared with, such as 'ncm==softmax'")
    parser.add_argument("--only", help="a condition on both")
    parser.add_argument(
        "--figure",
        help="a share in result.json or evaluation.json; the mean IoU, or the accuracy",
    )
    parser.add_argument(
        "--second_figure",
        help="that of the second, where it is another: both may be the same runs",
    )
    parser.add_argument(
        "--folders",
        nargs="+",
        default=["runs", "experiments/results"],
        help="folders with runs below them",
    )
    arguments = parser.parse_args(argv)
    try:
        rows = grid.read(arguments.grid, arguments.only)
        chosen = [
            grid.select(rows, getattr(arguments, side), side)
            for side in ("first", "second")
        ]
        by_key = collect.finished(*arguments.folders)
        sides = [collect.of_grid(rows, by_key) for rows in chosen]
        name = arguments.figure or next(
            (name for name in FIGURES if all(name in run for run in sides[0] + sides[1])),
            FIGURES[-1],
        )
        names = (name, arguments.second_figure or name)
        text = markdown(*map(by_seed, sides, names))
    except ValueError as error:  # a GridError, too
        sys.exit(f"compare: {error}")
    print(f"{text}  ({' - '.join(dict.fromkeys(names))})")


if __name__ == "__main__":
    main(sys.argv[1:])
