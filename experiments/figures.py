# SPDX-License-Identifier: Apache-2.0
"""Figures of the sweep, drawn from the small files of finished runs.

Each function takes runs as from `collect.read_runs` and returns a Matplotlib figure; a
method has one colour in all of them.
"""

from matplotlib.lines import Line2D

from experiments import tables
from experiments.drawing import (
    COLORS,
    TITLES,
    color,
    curve,
    in_percent,
    label,
    label_right,
    panels,
    percent,
    shades,
)
from experiments.published import rank_correlations, setting

PANELS = (("online", "softmax"), ("condensation",), ("decay",))
RATES = (0.1, 0.01)
NARROWEST = 0.04  # share that a panel spans: less would make seeds' differences look large


def overview(runs, published):
    """Test accuracy over epochs in six panels, beside the published final accuracies.

    Args:
        runs: List of finished runs on CIFAR-10 and CIFAR-100, one seed each.
        published: Dictionary as from `published.read`; diamonds at the right edge.
    """
    figure, axes = panels(2, 3, (13, 9), sharey="row")
    labels = {}
    for row, dataset in zip(axes, ("cifar10", "cifar100"), strict=True):
        for axis, methods in zip(row, PANELS, strict=True):
            chosen = [
                run
                for run in _sorted(runs)
                if run["flags"]["dataset"] == dataset and run["flags"]["ncm"] in methods
            ]
            labels[axis] = _overview_lines(axis, chosen, published)
            axis.set_title(f"{TITLES[dataset]}: {', '.join(methods)}")
        in_percent(row[0])
        row[0].set_ylabel("test accuracy")
    for axis in axes.flat:  # last, as the panels of a row share their limits
        label_right(axis, labels[axis])
    handles = [
        Line2D([], [], color="0.3", linestyle="-", label="learning rate 0.1"),
        Line2D([], [], color="0.3", linestyle="--", label="learning rate 0.01"),
        Line2D([], [], color="0.3", marker="D", linestyle="", markersize=4, mfc="none",
               label="published, final: ResNet-32, 250 epochs"),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _overview_lines(axis, runs, published):
    labels = []
    tones = {
        method: shades(setting(r["flags"])[2] for r in runs if r["flags"]["ncm"] == method)
        for method in {run["flags"]["ncm"] for run in runs}
    }
    for run in runs:
        _, method, parameter, rate = where = setting(run["flags"])
        ink = color(method, tones[method][parameter])
        axis.plot(
            *curve(run, "test_accuracy"), color=ink, linestyle="-" if rate >= 0.1 else "--"
        )
        final = run["final_test_accuracy"]
        labels.append((run["epochs"], final, _with_final(run), color(method)))
        if where in published:
            axis.plot(
                1, published[where]["final"], "D", color=ink, markersize=4, mfc="none",
                transform=axis.get_yaxis_transform(), clip_on=False, zorder=3,
            )  # fmt: skip
    axis.set_xlabel("epoch")
    return labels


def _with_final(run):
    return f"{label(run)}: {percent(run['final_test_accuracy'])}"


def best_of(runs):
    """For each method the run with the highest final accuracy, over epochs.

    The choice looks at the test set, as the published figure does: not for comparing
    methods, for which see `methods`.

    Args:
        runs: List of finished runs.
    """
    datasets = _datasets(runs)
    figure, axes = panels(1, len(datasets), (6 * len(datasets), 4))
    for axis, dataset in zip(axes[0], datasets, strict=True):
        best = {}
        for run in _sorted(runs):
            if run["flags"]["dataset"] == dataset:
                method = run["flags"]["ncm"]
                best[method] = max(
                    best.get(method, run), run, key=lambda one: one["final_test_accuracy"]
                )
        labels = []
        for method, run in best.items():
            axis.plot(*curve(run, "test_accuracy"), color=color(method))
            final = run["final_test_accuracy"]
            labels.append((run["epochs"], final, _with_final(run), color(method)))
        axis.set(title=TITLES[dataset], xlabel="epoch", ylabel="test accuracy")
        in_percent(axis)
        label_right(axis, labels)
    return figure


def relative_mean_distance(runs):
    """RMD, how far the class means in use are from those of a batch, over epochs.

    Solid: training images; dashed: test images. Runs without class means are left out.

    Args:
        runs: List of finished runs, one seed each.
    """
    runs = [run for run in _sorted(runs) if curve(run, "test_rmd")[0]]
    datasets = _datasets(runs)
    figure, axes = panels(1, len(datasets), (6 * len(datasets), 4))
    for axis, dataset in zip(axes[0], datasets, strict=True):
        chosen = [run for run in runs if run["flags"]["dataset"] == dataset]
        axis.set(title=TITLES[dataset], xlabel="epoch", yscale="log")
        axis.set_ylabel("relative mean distance")
        labels = []
        for run in chosen:
            method = run["flags"]["ncm"]
            same = [one for one in chosen if one["flags"]["ncm"] == method]
            ink = color(method, shades(map(_in_full, same))[_in_full(run)])
            axis.plot(*curve(run, "rmd"), color=ink)
            axis.plot(*curve(run, "test_rmd"), color=ink, linestyle="--")
            last = [values[-1] for values in curve(run, "test_rmd")]
            labels.append((*last, _in_full(run), color(method)))
        label_right(axis, labels)
    handles = [
        Line2D([], [], color="0.3", linestyle=style, label=text)
        for style, text in (("-", "training images"), ("--", "test images"))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def methods(runs):
    """Final test accuracy in each setting: mean and standard deviation over seeds.

    A row for each setting, as in `tables.markdown`.

    Args:
        runs: List of finished runs, several seeds of each setting.
    """
    datasets = _datasets(runs)
    groups = [
        (members[0], [run["final_test_accuracy"] for run in members])
        for _, members in tables.groups(_sorted(runs))
    ]
    rows = {
        name: [g for g in groups if g[0]["flags"]["dataset"] == name] for name in datasets
    }
    longest = max(map(len, rows.values()), default=1)
    rates = {run["flags"]["learning_rate"] for run in runs}
    rate = rates.pop() if len(rates) == 1 else 0.1
    figure, axes = panels(1, len(datasets), (6 * len(datasets), 1.2 + 0.38 * longest))
    for axis, (dataset, settings) in zip(axes[0], rows.items(), strict=True):
        for place, (run, values) in enumerate(settings):
            ink = color(run["flags"]["ncm"])
            mean, std = tables.mean_and_std(values)
            axis.errorbar(mean, place, xerr=std, fmt="o", color=ink, capsize=4)
            axis.plot(values, [place + 0.2] * len(values), ".", color=ink, alpha=0.5)
            text = percent(mean) if std is None else f"{100 * mean:.1f} ± {100 * std:.1f} %"
            axis.annotate(
                text, (1.02, place), xycoords=("axes fraction", "data"), color=ink,
                fontsize=8, va="center", annotation_clip=False,
            )  # fmt: skip
        names = [f"{_in_full(run, rate)} (n = {len(v)})" for run, v in settings]
        axis.set_yticks(range(len(settings)), names, fontsize=8)
        axis.set_ylim(longest - 0.5, -0.5)
        axis.set(title=TITLES[dataset], xlabel="final test accuracy")
        axis.margins(x=0.08)
        low, high = axis.get_xlim()
        spare = max(0, NARROWEST - (high - low)) / 2
        axis.set_xlim(low - spare, high + spare)
        in_percent(axis, "x")
    return figure


def _in_full(run, usual_rate=0.1):
    """Also with what makes rows of one method differ in the table."""
    text = label(run, usual_rate)
    dimensions = run["flags"].get("embedding_dim")
    parts = run["flags"].get("num_sub_centroids")
    text += "" if parts is None else f", K = {parts}"
    text += ", anchored" if run["flags"].get("anchor_epochs") else ""
    return text if dimensions is None else f"{text}, {dimensions} dimensions"


def scatter(runs, published):
    """Our final accuracies against the published ones, a panel for each learning rate.

    The rank correlation is that within the learning rate, of which the order owes nothing
    to the rate itself.

    Args:
        runs: List of finished runs, one seed each.
        published: Dictionary as from `published.read`.
    """
    runs = [run for run in _sorted(runs) if setting(run["flags"]) in published]
    compared = rank_correlations(runs, published)
    datasets = [name for name in _datasets(runs) if name in compared]
    figure, axes = panels(len(RATES), len(datasets), (6 * len(datasets), 8))
    for row, rate in zip(axes, RATES, strict=True):
        within = [run for run in runs if run["flags"]["learning_rate"] == rate]
        found = rank_correlations(within, published)
        for axis, dataset in zip(row, datasets, strict=True):
            chosen = [run for run in within if run["flags"]["dataset"] == dataset]
            _points(axis, chosen, published)
            title = f"{TITLES[dataset]}, learning rate {rate:g}"
            if dataset in found:
                rho, n = found[dataset]
                title += f": rank correlation {rho:.2f} ({n} runs)"
            axis.set_title(title, fontsize=10)
            axis.set_xlabel("published final test accuracy")
            axis.set_ylabel("final test accuracy here")
    return figure


def _points(axis, runs, published):
    labels = []
    theirs = [published[setting(run["flags"])]["final"] for run in runs]
    for run, x in zip(runs, theirs, strict=True):
        method, y = run["flags"]["ncm"], run["final_test_accuracy"]
        axis.plot(x, y, "o", color=color(method), markersize=5)
        labels.append((x, y, label(run).partition(",")[0], color(method)))
    axis.margins(x=0.3, y=0.08)
    in_percent(axis)
    in_percent(axis, "x")
    label_right(axis, labels, outside=False)


def _datasets(runs):
    found = {run["flags"]["dataset"] for run in runs}
    return [dataset for dataset in TITLES if dataset in found]


def _sorted(runs):
    """Methods in the order of the colours, parameters rising and learning rates falling."""
    order = list(COLORS)

    def place(run):
        dataset, method, parameter, rate = setting(run["flags"])
        known = order.index(method) if method in order else len(order)
        dimensions = run["flags"].get("embedding_dim") or 0
        seed = run["flags"]["seed"]
        return dataset, known, method, parameter or 0, dimensions, -rate, seed

    return sorted(runs, key=place)
