# SPDX-License-Identifier: Apache-2.0
"""What all figures share: colours of methods, names of runs, labels beside lines."""

import pathlib

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.optimize import isotonic_regression

from deepncm_tf.utils import files
from experiments.published import setting

# A colour for each method in all figures: Okabe and Ito's, which colour-blind readers can
# tell apart, and a violet.
COLORS = {
    "softmax": "#000000",
    "online": "#0072B2",
    "condensation": "#009E73",
    "decay": "#D55E00",
    "dnc": "#CC79A7",
    "nca": "#E69F00",
    "lda": "#56B4E9",
    "ranpac": "#6A51A3",
}
OTHER = "0.45"  # a method that is not in the list
TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "digits": "Digits"}
TEXT = 7.5  # points, of the labels
LINE = 1.25  # height of a line of text, in sizes of the text


def panels(rows, columns, size, **kwargs):
    """A figure and its `(rows, columns)` axes, whose grids lie behind."""
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **kwargs)
    for axis in axes.flat:
        axis.grid(True, color="0.93")
        axis.set_axisbelow(True)
    return figure, axes


def color(method, shade=0.0):
    """A method's colour, the lighter the nearer `shade` is to 1."""
    rgb = np.array(to_rgb(COLORS.get(method, OTHER)))
    return tuple(rgb + shade * (1 - rgb))


def shades(keys):
    """A shade for each of a method's settings, from the full colour to a light one."""
    keys = list(dict.fromkeys(keys))
    return {key: 0.6 * place / max(len(keys) - 1, 1) for place, key in enumerate(keys)}


def in_percent(axis, which="y"):
    """Labels of fractions on an axis."""
    chosen = axis.xaxis if which == "x" else axis.yaxis
    chosen.set_major_locator(MaxNLocator(6))
    chosen.set_major_formatter(lambda value, _: f"{round(100 * value, 6):g} %")


def label_right(axis, labels, outside=True):
    """Writes labels right of points, as near to them as they go without touching.

    Args:
        axis: Axes, of which everything is drawn already.
        labels: List of (x, y, text, colour): a point, and what it is called.
        outside: Bool, whether the labels form a column right of the panel.
    """
    if not labels:
        return
    axis.autoscale_view()  # or the limits would not yet be those of the lines
    axis.set(xlim=axis.get_xlim(), ylim=axis.get_ylim())
    to_axes = axis.transData + axis.transAxes.inverted()
    points = to_axes.transform([(x, y) for x, y, *_ in labels])
    rows = axis.get_gridspec().nrows
    height = 0.75 * 72 * axis.get_figure().get_figheight() / rows  # about a panel's
    places = spread(points[:, 1], TEXT * LINE / height)
    starts = [1.05] * len(labels) if outside else points[:, 0] + 0.025
    for (x, y, text, ink), start, place in zip(labels, starts, places, strict=True):
        axis.annotate(
            text,
            (x, y),
            (start, place),
            textcoords="axes fraction",
            color=ink,
            fontsize=TEXT,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": "0.7",
                "linewidth": 0.5,
                "shrinkA": 0,
                "shrinkB": 3,
                "relpos": (0, 0.5),  # from the text's left edge
            },
        )


def spread(values, gap):
    """Places as near to values as they go at least `gap` apart, in the values' order."""
    values = np.asarray(values, float)
    order = np.argsort(values, kind="stable")
    steps = gap * np.arange(len(values))
    places = np.empty_like(values)
    places[order] = isotonic_regression(values[order] - steps).x + steps
    return places


def label(run, usual_rate=0.1):
    """A run's method, parameter and learning rate where that is not the usual one."""
    _, method, parameter, rate = setting(run["flags"])
    text = method if parameter is None else f"{method} {parameter:g}"
    return text if rate == usual_rate else f"{text}, lr {rate:g}"


def curve(run, name):
    """Epochs and what was measured in them."""
    entries = [entry for entry in run["metrics"] if name in entry]
    return [entry["epoch"] for entry in entries], [entry[name] for entry in entries]


def percent(value):
    return f"{100 * value:.1f} %"


def save(figure, name, folder):
    """Writes NAME.png and NAME.pdf into a folder, the same bytes for the same figure.

    Returns:
        List of the two paths.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{suffix}" for suffix in ("png", "pdf")]
    for path, metadata in zip(
        paths, ({"Software": None}, {"CreationDate": None}), strict=True
    ):
        files.write_atomically(
            path, lambda where, metadata=metadata: figure.savefig(where, metadata=metadata)
        )
    return paths
