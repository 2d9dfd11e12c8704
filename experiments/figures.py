# SPDX-License-Identifier: Apache-2.0
"""Figures of the sweep, drawn from the small files of finished runs.

Each function takes runs as from `collect.read_runs` and returns a Matplotlib figure.
"""

import pathlib

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from deepncm_tf.utils import files
from experiments import tables
from experiments.published import pairs, rank_correlations, setting

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "0.6"
TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "digits": "Digits"}
PANELS = (("online", "softmax"), ("condensation",), ("decay",))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def overview(runs, published, curves=None):
    """Test accuracy over epochs in six panels, beside the published final accuracies.

    Args:
        runs: List of finished runs on CIFAR-10 and CIFAR-100, one seed each.
        published: Dictionary as from `published.read`; grey horizontal lines.
        curves: Dictionary as from `published.read_curves`, drawn behind; their epochs are
            stretched or shrunk to the length of the runs.
    """
    figure, axes = _panels(2, 3, (13, 9.5), sharey="row")
    for row, dataset in zip(axes, ("cifar10", "cifar100"), strict=True):
        for axis, methods in zip(row, PANELS, strict=True):
            chosen = [
                run
                for run in _sorted(runs)
                if run["flags"]["dataset"] == dataset and run["flags"]["ncm"] in methods
            ]
            _overview_panel(axis, chosen, published, curves or {})
            axis.set_title(f"{TITLES[dataset]}: {', '.join(methods)}")
    return figure


def _overview_panel(axis, runs, published, curves):
    settings = [setting(run["flags"]) for run in runs]
    colors = {
        one: COLORS[i] for i, one in enumerate(dict.fromkeys(s[1:3] for s in settings))
    }
    for run, where in zip(runs, settings, strict=True):
        epochs, accuracies = _curve(run, "test_accuracy")
        if where in published:
            axis.axhline(published[where]["final"], color=GREY, linewidth=0.8, zorder=1)
        if behind := curves.get(where):
            scale = run["epochs"] / len(behind)
            x = [scale * (i + 1) for i in range(len(behind))]
            axis.plot(x, behind, color="0.85", linewidth=0.6, zorder=0)
        axis.plot(
            epochs,
            accuracies,
            color=colors[where[1:3]],
            linestyle="-" if where[3] >= 0.1 else "--",
            label=f"{_label(run)}: {_percent(run['final_test_accuracy'])} "
            f"({_percent(run['best_test_accuracy'])})",
        )
    handles, _ = axis.get_legend_handles_labels()
    handles.append(Line2D([], [], color=GREY, linewidth=0.8, label="published, final"))
    axis.set_xlabel("epoch")
    # Below: eight curves leave no room inside.
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14)}
    title = "test accuracy in %: final (best)"
    axis.legend(
        handles=handles, fontsize=6.5, ncols=2, title=title, title_fontsize=6.5, **place
    )
    axis.set_ylabel("test accuracy")


def best_of(runs):
    """For each method the run with the highest final accuracy, over epochs.

    The choice looks at the test set, as the published figure does: not for comparing
    methods, for which see `methods`.

    Args:
        runs: List of finished runs.
    """
    datasets = _datasets(runs)
    figure, axes = _panels(1, len(datasets), (5.5 * len(datasets), 4))
    for axis, dataset in zip(axes[0], datasets, strict=True):
        best = {}
        for run in _sorted(runs):
            if run["flags"]["dataset"] == dataset:
                method = run["flags"]["ncm"]
                best[method] = max(
                    best.get(method, run), run, key=lambda one: one["final_test_accuracy"]
                )
        for color, run in zip(COLORS, best.values(), strict=False):
            epochs, accuracies = _curve(run, "test_accuracy")
            label = f"{_label(run)}: {_percent(run['final_test_accuracy'])}"
            axis.plot(epochs, accuracies, color=color, label=label)
        axis.set(title=TITLES[dataset], xlabel="epoch", ylabel="test accuracy")
        axis.legend(fontsize=8)
    return figure


def relative_mean_distance(runs):
    """RMD, the distance of the class means in use from the true ones, over epochs.

    Solid: training images; dashed: test images. Runs without class means are left out.

    Args:
        runs: List of finished runs, one seed each.
    """
    runs = [run for run in _sorted(runs) if _curve(run, "test_rmd")[0]]
    datasets = _datasets(runs)
    figure, axes = _panels(1, len(datasets), (5.5 * len(datasets), 4))
    for axis, dataset in zip(axes[0], datasets, strict=True):
        chosen = [run for run in runs if run["flags"]["dataset"] == dataset]
        for color, run in zip(COLORS, chosen, strict=False):
            axis.plot(*_curve(run, "rmd"), color=color, label=_label(run))
            axis.plot(*_curve(run, "test_rmd"), color=color, linestyle="--")
        axis.set(title=TITLES[dataset], xlabel="epoch", ylabel="RMD", yscale="log")
        axis.legend(fontsize=8, title="solid: train, dashed: test", title_fontsize=8)
    return figure


def methods(runs):
    """Final test accuracy of each method: mean and standard deviation over seeds.

    Args:
        runs: List of finished runs, several seeds of each setting.
    """
    datasets = _datasets(runs)
    figure, axes = _panels(1, len(datasets), (5.5 * len(datasets), 4))
    for axis, dataset in zip(axes[0], datasets, strict=True):
        members = [run for run in _sorted(runs) if run["flags"]["dataset"] == dataset]
        groups = {}
        for run in members:
            groups.setdefault(_label(run), []).append(run["final_test_accuracy"])
        for place, (color, values) in enumerate(zip(COLORS, groups.values(), strict=False)):
            mean, std = tables.mean_and_std(values)
            axis.errorbar(place, mean, yerr=std, fmt="o", color=color, capsize=4)
            axis.plot([place + 0.15] * len(values), values, ".", color=color, alpha=0.6)
        names = [
            f"{name.replace(' ', chr(10))}\nn={len(values)}"
            for name, values in groups.items()
        ]
        axis.set_xticks(range(len(groups)), names, fontsize=8)
        axis.set(title=TITLES[dataset], ylabel="final test accuracy")
        axis.margins(x=0.1)
    return figure


def scatter(runs, published):
    """Our final accuracies against the published ones, with rank correlations.

    Args:
        runs: List of finished runs, one seed each.
        published: Dictionary as from `published.read`.
    """
    correlations = rank_correlations(runs, published)
    figure, axes = _panels(1, len(correlations), (5.5 * len(correlations), 4.5))
    for axis, (dataset, (rho, n)) in zip(axes[0], correlations.items(), strict=True):
        for i, method in enumerate(("softmax", "online", "condensation", "decay")):
            for rate, filled in ((0.1, True), (0.01, False)):
                some = [
                    run
                    for run in runs
                    if run["flags"]["ncm"] == method
                    and run["flags"]["learning_rate"] == rate
                ]
                ours, theirs = pairs(some, published, dataset)
                axis.scatter(
                    theirs,
                    ours,
                    marker=MARKERS[i],
                    edgecolors=COLORS[i],
                    facecolors=COLORS[i] if filled else "none",
                    label=f"{method}, lr {rate}" if ours else None,
                )
        axis.set(
            title=f"{TITLES[dataset]}: rank correlation {rho:.2f} ({n} runs)",
            xlabel="published final test accuracy",
            ylabel="final test accuracy here",
        )
        axis.legend(fontsize=7)
    return figure


def save(figure, name, folder):
    """Writes NAME.png and NAME.pdf, the same bytes for the same figure.

    Returns:
        List of the two paths.
    """
    paths = [pathlib.Path(folder) / f"{name}.{suffix}" for suffix in ("png", "pdf")]
    for path, metadata in zip(
        paths, ({"Software": None}, {"CreationDate": None}), strict=True
    ):
        files.write_atomically(
            path, lambda where, metadata=metadata: figure.savefig(where, metadata=metadata)
        )
    return paths


def _panels(rows, columns, size, **kwargs):
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **kwargs)
    for axis in axes.flat:
        axis.grid(True, color="0.93")
        axis.set_axisbelow(True)
    return figure, axes


def _datasets(runs):
    found = {run["flags"]["dataset"] for run in runs}
    return [dataset for dataset in TITLES if dataset in found]


def _sorted(runs):
    """Methods in the order of the panels, parameters and learning rates falling."""
    order = [method for panel in PANELS for method in panel]

    def place(run):
        dataset, method, parameter, rate = setting(run["flags"])
        known = order.index(method) if method in order else len(order)
        return dataset, known, method, parameter or 0, -rate, run["flags"]["seed"]

    return sorted(runs, key=place)


def _label(run):
    _, method, parameter, rate = setting(run["flags"])
    text = method if parameter is None else f"{method} {parameter:g}"
    return text if rate == 0.1 else f"{text}, lr {rate:g}"


def _curve(run, name):
    entries = [entry for entry in run["metrics"] if name in entry]
    return [entry["epoch"] for entry in entries], [entry[name] for entry in entries]


def _percent(value):
    return f"{100 * value:.1f}"
