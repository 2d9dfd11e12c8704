# SPDX-License-Identifier: Apache-2.0
"""Draws the figures of the sweep from the small files of finished runs.

    python -m experiments.draw --output=figs

draws those of the committed results.
"""

import argparse
import pathlib
import sys

from experiments import collect, drawing, figures, grid, published

HERE = pathlib.Path(__file__).parent
# The grids of which a figure shows all runs.
GRIDS = {"small": ("small",), "methods": ("methods", "nca", "embedding")}


def save_whole(figure, name, folder, absent):
    """As `drawing.save`, unless runs are missing: it replaces no figure of more runs.

    Args:
        absent: List of the names of missing runs, as from `collect.missing`.

    Returns:
        List of paths, empty where nothing was written.
    """
    paths = [] if absent else drawing.save(figure, name, folder)
    if absent:
        print(f"{name} is not written: {len(absent)} runs are missing, such as {absent[0]}")
    return paths


def read(name, *folders):
    """The finished runs of `GRIDS[name]` below folders, and the names of the missing."""
    rows = [row for one in GRIDS[name] for row in grid.read(HERE / f"{one}.tsv")]
    by_key = collect.finished(*folders)
    return collect.of_grid(rows, by_key), collect.missing(rows, by_key)


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--runs", default=HERE / "results", help="folder with runs below it"
    )
    parser.add_argument("--output", default="figs", help="folder to write to")
    arguments = parser.parse_args(argv)
    small, small_absent = read("small", arguments.runs)
    all_methods, absent = read("methods", arguments.runs)
    first_seed = [run for run in all_methods if run["flags"]["seed"] == 0]
    finals = published.read()
    drawn = [
        ("overview", figures.overview(small, finals), small_absent),
        ("best_of", figures.best_of(small), small_absent),
        ("scatter", figures.scatter(small, finals), small_absent),
        ("rmd", figures.relative_mean_distance(first_seed), absent),
        ("methods", figures.methods(all_methods), absent),
    ]
    for name, figure, missing in drawn:
        for path in save_whole(figure, name, arguments.output, missing):
            print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
