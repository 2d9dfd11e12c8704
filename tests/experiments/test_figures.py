# SPDX-License-Identifier: Apache-2.0
"""Figures of the sweep, from made-up runs; and the notebook that draws them."""

import pathlib
import shutil

import pytest
from finished import write_run

from experiments import collect, figures, grid, published

ROOT = pathlib.Path(collect.__file__).parents[1]


@pytest.fixture
def runs(tmp_path):
    """The small grid with the published accuracies, a little off."""
    finals = published.read()
    folders = []
    for i, row in enumerate(grid.read(ROOT / "experiments/small.tsv")):
        accuracy = finals[published.setting(row.config)]["final"] - 0.001 * (i % 3)
        rmd = None if row.config["ncm"] == "softmax" else 0.1
        folders.append(write_run(tmp_path / str(i), row.config, accuracy, rmd=rmd))
    return collect.read_runs(folders)


def test_overview(runs):
    curves = {one: [0.1, 0.2, 0.3] for one in published.read()}
    figure = figures.overview(runs, published.read(), curves)
    assert len(figure.axes) == 6
    numbers = [len(axis.get_legend().get_texts()) - 1 for axis in figure.axes]
    assert numbers == [4, 8, 8, 4, 4, 4]  # all 32, in the order of the panels
    decay = figure.axes[5]
    assert decay.get_title() == "CIFAR-100: decay"
    label = decay.get_legend().get_texts()[3].get_text()
    assert label.startswith("decay 0.95: 63.")
    assert decay.get_legend().get_title().get_text().endswith("final (best)")
    grey = [line for line in decay.lines if line.get_color() == figures.GREY]
    wanted = [
        v["final"] for k, v in published.read().items() if k[:2] == ("cifar100", "decay")
    ]
    assert sorted(line.get_ydata()[0] for line in grey) == sorted(wanted)
    behind = [line for line in decay.lines if line.get_color() == "0.85"]
    assert list(behind[0].get_xdata()) == [2, 4, 6]  # stretched to six epochs


def test_overview_of_a_part_of_the_runs(runs):
    figure = figures.overview(runs[:1], published.read())
    assert len(figure.axes) == 6
    assert len(figures.overview([], published.read()).axes) == 6


def test_best_of(runs):
    figure = figures.best_of(runs)
    assert [axis.get_title() for axis in figure.axes] == ["CIFAR-10", "CIFAR-100"]
    for axis in figure.axes:
        assert len(axis.lines) == 4
    best = max(
        run["final_test_accuracy"]
        for run in runs
        if (run["flags"]["dataset"], run["flags"]["ncm"]) == ("cifar10", "decay")
    )
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert any(t.startswith("decay") and t.endswith(f"{100 * best:.1f}") for t in texts)


def test_relative_mean_distance(runs):
    some = runs[::5]
    figure = figures.relative_mean_distance(some)
    chosen = [run for run in some if run["flags"]["ncm"] != "softmax"]
    lines = [line for axis in figure.axes for line in axis.lines]
    assert len(lines) == 2 * len(chosen)
    assert [line.get_linestyle() for line in lines[:2]] == ["-", "--"]
    assert list(lines[0].get_ydata()) == pytest.approx([0.1 / e for e in range(1, 7)])


def test_methods_have_error_bars(tmp_path):
    folders = [
        write_run(tmp_path / row.run, row.config, 0.5 + 0.1 * row.config["seed"])
        for row in grid.read(ROOT / "experiments/methods.tsv")
    ]
    figure = figures.methods(collect.read_runs(folders))
    for axis in figure.axes:
        assert len(axis.containers) == len(axis.get_xticklabels())
        line, _, (bars,) = axis.containers[0]
        assert line.get_ydata() == pytest.approx([0.6])
        low, high = bars.get_segments()[0][:, 1]
        assert (low, high) == pytest.approx((0.5, 0.7))
        assert axis.get_xticklabels()[0].get_text().endswith("n=3")


def test_rank_correlation(runs):
    finals = published.read()
    for run in runs:
        run["final_test_accuracy"] = finals[published.setting(run["flags"])]["final"] ** 3
    assert published.rank_correlations(runs, finals) == {
        "cifar10": (pytest.approx(1), 20),
        "cifar100": (pytest.approx(1), 12),
    }
    for run in runs:
        run["final_test_accuracy"] *= -1
    assert published.rank_correlations(runs, finals)["cifar100"][0] == pytest.approx(-1)
    figure = figures.scatter(runs, finals)
    assert "rank correlation -1.00 (12 runs)" in figure.axes[1].get_title()
    assert sum(len(points.get_offsets()) for points in figure.axes[0].collections) == 20


def test_files_are_the_same_for_the_same_figure(runs, tmp_path):
    paths = figures.save(figures.best_of(runs), "one", tmp_path)
    assert [path.name for path in paths] == ["one.png", "one.pdf"]
    before = [path.read_bytes() for path in paths]
    assert before[0].startswith(b"\x89PNG")
    assert before[1].startswith(b"%PDF")
    figures.save(figures.best_of(runs), "one", tmp_path)
    assert [path.read_bytes() for path in paths] == before


def test_published_curves_are_read_with_their_settings(tmp_path):
    path = tmp_path / "curves.csv"
    path.write_text(
        "dataset,ncm,parameter,learning_rate,epoch,test_accuracy\n"
        "cifar10,decay,0.50,0.1,1,0.25\ncifar10,decay,0.50,0.1,2,0.5\n"
        "cifar100,softmax,,0.01,1,0.125\n"
    )
    assert published.read_curves(path) == {
        ("cifar10", "decay", 0.5, 0.1): [0.25, 0.5],
        ("cifar100", "softmax", None, 0.01): [0.125],
    }


def test_the_notebook_runs_on_committed_results(tmp_path):
    import nbclient
    import nbformat

    (tmp_path / "figs").mkdir()
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    notebook = nbformat.read(ROOT / "figs/deepncm_overview.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)  # as committed
    where = {"metadata": {"path": tmp_path / "figs"}}
    nbclient.NotebookClient(notebook, resources=where).execute()
    names = {"overview", "best_of", "rmd", "methods", "scatter"}
    written = {path.name for path in (tmp_path / "figs").iterdir()}
    assert written == {f"{name}.{suffix}" for name in names for suffix in ("png", "pdf")}
    printed = [
        o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", [])
    ]
    assert any("of 32 runs are finished" in text for text in printed)
