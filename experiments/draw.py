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
# The grids of figures.
GRIDS = {
    "small": ("small",),
    "methods": ("methods", "nca", "embedding"),
    "middle": ("middle",),
}


def save_whole(figure, name, folder, absent):
    """As `drawing.save`, unless runs are missing: it replaces no figure of more runs.

    Args:
        absent: List of the names of missing runs, as from `read`.

    Returns:
        List of paths, empty where nothing was written.
    """
    paths = [] if absent else drawing.save(figure, name, folder)
    if absent:
        print(f"{name} is not written: {len(absent)} runs are missing, such as {absent[0]}")
    return paths


def read(name, *folders):
    """The finished runs of `GRIDS[name]` below folders, and the names of the missing.

    Rows of which `results/` has no run are not missed: the committed figures do without.
    """
    rows = [row for one in GRIDS[name] for row in grid.read(HERE / f"{one}.tsv")]
    by_key = collect.finished(*folders)
    never_run = collect.missing(rows, collect.finished(HERE / "results"))
    missing = collect.missing(rows, by_key)
    return collect.of_grid(rows, by_key), [r for r in missing if r not in never_run]


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--runs", default=HERE / "results", help="folder with runs below it"
    )
    parser.add_argument("--output", default="figs", help="folder to write to")
    arguments = parser.parse_args(argv)
    small, small_absent = read("small", arguments.runs)
    all_methods, absent = read("methods", arguments.runs)
    middle, middle_absent = read("middle", arguments.runs)
    middle = [run for run in middle if run["flags"]["label"] == "fine"]
    first_seed = [run for run in all_methods if run["flags"]["seed"] == 0]
    finals = published.read()
    drawn = [
        ("overview", lambda runs: figures.overview(runs, finals), small, small_absent),
        ("best_of", figures.best_of, small, small_absent),
        ("scatter", lambda runs: figures.scatter(runs, finals), small, small_absent),
        ("rmd", figures.relative_mean_distance, first_seed, absent),
        ("methods", figures.methods, all_methods, absent),
        ("middle", figures.methods, middle, middle_absent),
    ]
    for name, draw, runs, missing in drawn:
        if not runs:
            print(f"{name} is not written: none of its runs is finished")
            continue
        try:
            paths = save_whole(draw(runs), name, arguments.output, missing)
        except OSError as error:
            sys.exit(f"draw: {error}")
        for path in paths:
            print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
