# SPDX-License-Identifier: Apache-2.0
"""Curves of things that are compared, as a picture, where Matplotlib is installed."""

import pathlib

from deepncm_tf.utils import files

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKED = 30  # points, up to which each of them is marked


def can_draw():
    """Whether Matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def write_curves(path, x, curves, x_label, y_label, chance=None):
    """Draws a line for each thing, with a band of a standard deviation on either side.

    Args:
        path: Path of the PNG file.
        x: `(n,)` numbers.
        curves: Dictionary from names to pairs of `(n,)` means and `(n,)` deviations.
        x_label, y_label: Strings, what the axes say.
        chance: `(n,)` numbers that guessing gives, or None.
    """
    from matplotlib.figure import Figure

    figure = Figure((6.4, 4.0), layout="constrained")
    axis = figure.subplots()
    if chance is not None:
        axis.plot(x, chance, color="0.6", linestyle="--", linewidth=1, label="chance")
    marker = "o" if len(x) <= MARKED else None
    for place, (name, (mean, deviation)) in enumerate(curves.items()):
        color = COLORS[place % len(COLORS)]
        axis.plot(x, mean, color=color, label=name, marker=marker, markersize=3)
        axis.fill_between(
            x, mean - deviation, mean + deviation, color=color, alpha=0.15, linewidth=0
        )
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.grid(color="0.9")
    axis.legend(frameon=False)
    path = pathlib.Path(path)
    files.write_atomically(path, lambda where: figure.savefig(where, dpi=150))


def write_roc(path, rates, curves, areas):
    """Draws ROC curves of scores.

    Args:
        path: Path of the PNG file.
        rates: `(n,)` numbers, false positive rates.
        curves: Dictionary from names of scores to `(n,)` true positive rates.
        areas: Dictionary from names of scores to the areas under them, in [0, 1].
    """
    import numpy as np

    rates = 100 * np.array(rates)
    lines = {
        f"{name.replace('_', ' ')}, {100 * areas[name]:.1f}": (100 * np.array(curve), 0)
        for name, curve in curves.items()
    }
    known = "Known images accepted, %"
    write_curves(path, rates, lines, "Unknown images accepted, %", known, chance=rates)
