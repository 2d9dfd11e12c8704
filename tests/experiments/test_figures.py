# SPDX-License-Identifier: Apache-2.0
"""Figures of the sweep, from made-up runs; and the notebook that draws them."""

import pathlib
import shutil

import pytest
from finished import write_run
from matplotlib.colors import to_rgb

from experiments import collect, draw, drawing, figures, grid, published, tables

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


def texts(axis):
    return [text.get_text() for text in axis.texts]


def test_overview(runs):
    figure = figures.overview(runs, published.read())
    assert len(figure.axes) == 6
    assert [len(axis.texts) for axis in figure.axes] == [4, 8, 8, 4, 4, 4]  # all 32
    decay = figure.axes[5]
    assert decay.get_title() == "CIFAR-100: decay"
    assert texts(decay)[3].startswith("decay 0.95: 63.")
    assert texts(decay)[3].endswith(" %")
    marks = [line for line in decay.lines if line.get_marker() == "D"]
    wanted = [
        v["final"] for k, v in published.read().items() if k[:2] == ("cifar100", "decay")
    ]
    assert sorted(mark.get_ydata()[0] for mark in marks) == sorted(wanted)
    assert {mark.get_xdata()[0] for mark in marks} == {1}  # the right edge
    assert len(decay.lines) == 2 * len(marks)  # and nothing behind
    assert figure.axes[0].yaxis.get_major_formatter()(0.125, 0) == "12.5 %"


def test_a_method_has_one_colour_in_all_figures(runs):
    """That of the palette, lighter for further settings of the method."""
    finals = published.read()
    drawn = [
        figures.overview(runs, finals),
        figures.best_of(runs),
        figures.scatter(runs, finals),
        figures.relative_mean_distance(runs[::5]),
    ]
    for figure in drawn:
        found = {
            (text.get_text().split()[0].rstrip(":,"), text.get_color())
            for axis in figure.axes
            for text in axis.texts
        }
        assert len(found) >= 2
        for method, ink in found:
            assert ink == to_rgb(drawing.COLORS[method])


@pytest.mark.parametrize(
    ("values", "places"),
    [
        ([], []),
        ([5], [5]),
        ([0, 9], [0, 9]),
        ([3, 3], [2.5, 3.5]),
        ([4, 1, 4], [3.5, 1, 4.5]),
    ],
)
def test_labels_do_not_touch(values, places):
    assert drawing.spread(values, 1).tolist() == places


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
    labels = texts(figure.axes[0])
    assert any(t.startswith("decay") and t.endswith(f"{100 * best:.1f} %") for t in labels)


def test_relative_mean_distance(runs):
    some = runs[::5]
    figure = figures.relative_mean_distance(some)
    chosen = [run for run in some if run["flags"]["ncm"] != "softmax"]
    lines = [line for axis in figure.axes for line in axis.lines]
    assert len(lines) == 2 * len(chosen)
    assert [line.get_linestyle() for line in lines[:2]] == ["-", "--"]
    assert list(lines[0].get_ydata()) == pytest.approx([0.1 / e for e in range(1, 7)])


def test_methods_have_error_bars(tmp_path):
    """A row for each row of the table, whatever its settings are."""
    rows = [
        row
        for name in ("methods", "embedding")
        for row in grid.read(ROOT / f"experiments/{name}.tsv")
    ]
    folders = [
        write_run(tmp_path / row.run, row.config, 0.5 + 0.1 * row.config["seed"])
        for row in rows
    ]
    runs = collect.read_runs(folders)
    figure = figures.methods(runs)
    names = [[label.get_text() for label in a.get_yticklabels()] for a in figure.axes]
    assert sum(map(len, names)) == len(tables.groups(runs)) == 14
    assert "softmax, 128 dimensions (n = 3)" in names[1]
    assert "dnc, K = 4, 128 dimensions (n = 3)" in names[0]
    for axis in figure.axes:
        assert len(axis.containers) == len(axis.get_yticklabels())
        line, _, (bars,) = axis.containers[0]
        assert line.get_xdata() == pytest.approx([0.6])
        low, high = bars.get_segments()[0][:, 0]
        assert (low, high) == pytest.approx((0.5, 0.7))
        assert texts(axis) == ["60.0 ± 10.0 %"] * len(axis.containers)


def test_rows_say_what_tells_them_apart(tmp_path):
    """Not the learning rate that all have in common."""
    rows = grid.read(ROOT / "experiments/middle.tsv", "ncm==dnc and label!=coarse")
    folders = [
        write_run(tmp_path / row.run, row.config, 0.9 + place / 1000)
        for place, row in enumerate(rows)
    ]
    figure = figures.methods(collect.read_runs(folders))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "dnc, K = 1, 128 dimensions (n = 1)",
        "dnc, K = 4, 128 dimensions (n = 3)",
        "dnc, K = 4, anchored, 128 dimensions (n = 1)",
    ]
    low, high = figure.axes[0].get_xlim()
    assert high - low == pytest.approx(figures.NARROWEST)


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
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[0] == "CIFAR-10, learning rate 0.1: rank correlation -1.00 (10 runs)"
    assert titles[3] == "CIFAR-100, learning rate 0.01"  # of two runs
    assert [len(axis.lines) for axis in figure.axes] == [10, 10, 10, 2]
    assert sorted(texts(figure.axes[0]))[:2] == ["condensation 100", "condensation 195"]


def test_files_are_the_same_for_the_same_figure(runs, tmp_path):
    paths = drawing.save(figures.best_of(runs), "one", tmp_path)
    assert [path.name for path in paths] == ["one.png", "one.pdf"]
    before = [path.read_bytes() for path in paths]
    assert before[0].startswith(b"\x89PNG")
    assert before[1].startswith(b"%PDF")
    drawing.save(figures.best_of(runs), "one", tmp_path)
    assert [path.read_bytes() for path in paths] == before


def test_a_figure_of_fewer_runs_replaces_none(tmp_path, capsys):
    kept = draw.read("small", ROOT / "experiments/results/sweep")[0][1:]
    some, absent = draw.read("small", tmp_path)
    assert (some, len(absent)) == ([], 32)
    (tmp_path / "overview.png").write_text("better")
    figure = figures.overview(kept, published.read())
    assert draw.save_whole(figure, "overview", tmp_path, absent[:1]) == []
    assert [path.name for path in tmp_path.iterdir()] == ["overview.png"]
    assert (tmp_path / "overview.png").read_text() == "better"
    assert "overview is not written: 1 runs are missing" in capsys.readouterr().out


def test_the_command_draws_all_figures(tmp_path, capsys):
    folder = tmp_path / "new" / "figs"
    draw.main([f"--output={folder}"])
    names = {"overview", "best_of", "rmd", "methods", "middle", "scatter"}
    written = {f"{name}.{suffix}" for name in names for suffix in ("png", "pdf")}
    assert {path.name for path in folder.iterdir()} == written
    assert len(capsys.readouterr().out.splitlines()) == 12


@pytest.mark.bad_input
def test_a_file_for_the_folder_of_figures_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SystemExit, match=r"draw: \[Errno .*file"):
        draw.main([f"--output={tmp_path / 'file'}"])
    assert (tmp_path / "file").read_text() == "mine"


def test_the_command_without_runs(tmp_path, capsys):
    draw.main([f"--runs={tmp_path}", f"--output={tmp_path}"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert all(
        line.endswith("is not written: none of its runs is finished") for line in lines
    )
    assert list(tmp_path.iterdir()) == []


def _run_notebook(folder, results):
    """Runs it beside a copy of the experiments: its text, and the pictures it shows."""
    import nbclient
    import nbformat

    (folder / "figs").mkdir()
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    notebook = nbformat.read(ROOT / "figs/deepncm_overview.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)  # as committed
    for cell in notebook.cells:
        cell.source = cell.source.replace('root / "experiments" / "results"', results)
    where = {"metadata": {"path": folder / "figs"}}
    nbclient.NotebookClient(notebook, resources=where).execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    shown = [o for o in outputs if "image/png" in o.get("data", {})]
    return "".join(o.get("text", "") for o in outputs), shown


@pytest.mark.slow
def test_the_notebook_runs_on_committed_results(tmp_path):
    printed, shown = _run_notebook(tmp_path, 'root / "experiments" / "results"')
    names = {"overview", "best_of", "rmd", "methods", "middle", "scatter"}
    written = {path.name for path in (tmp_path / "figs").iterdir()}
    assert written == {f"{name}.{suffix}" for name in names for suffix in ("png", "pdf")}
    assert "small: 32 runs are finished, 0 missing" in printed
    assert len(shown) == len(names)


@pytest.mark.slow
def test_the_notebook_shows_what_few_runs_there_are(tmp_path):
    run = grid.read(ROOT / "experiments/middle.tsv", "ncm==softmax")[0].run
    shutil.copytree(ROOT / "experiments/results/sweep" / run, tmp_path / "runs" / run)
    printed, shown = _run_notebook(tmp_path, 'root / "runs"')
    assert list((tmp_path / "figs").iterdir()) == []
    assert "overview: none of its runs is finished" in printed
    assert "middle is not written" in printed
    assert len(shown) == 1
