# SPDX-License-Identifier: Apache-2.0
"""Tables of finished runs."""

import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys

import pytest
from finished import write_run

from deepncm_tf import flags, runs
from experiments import collect, grid, tables

RESULTS = pathlib.Path(collect.__file__).with_name("results")
ACCURACIES = {0: 0.5, 1: 0.6, 2: 0.75}


def config(**values):
    return flags.resolve(
        {"dataset": "digits", "ncm": "softmax", "train_epochs": 2, **values}
    )


@pytest.fixture
def folder(tmp_path):
    """Three seeds of a setting and one of another, in folders whose names mean nothing."""
    for seed, accuracy in ACCURACIES.items():
        write_run(tmp_path / "x" / f"{seed}", config(seed=seed), accuracy, seconds=seed + 1)
    write_run(tmp_path / "y", config(ncm="decay", decay=0.5), 0.8, rmd=0.1)
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "config.json").write_text("{}")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "result.json").write_text("[]")
    return tmp_path


def test_runs_are_found_whatever_their_folders_are_called(folder):
    found = collect.finished(folder)
    assert len(found) == 4
    assert found[collect.key(config(seed=2))] == folder / "x" / "2"


def test_records_have_the_varied_flags_and_the_figures(folder):
    records = tables.records(collect.read_runs(collect.finished(folder).values()))
    assert [(r["ncm"], r["decay"], r["seed"]) for r in records] == [
        ("decay", 0.5, 0),
        ("softmax", None, 0),
        ("softmax", None, 1),
        ("softmax", None, 2),
    ]
    assert "train_epochs" not in records[0]  # the same in all
    assert [r["final_test_accuracy"] for r in records] == [0.8, 0.5, 0.6, 0.75]
    assert [r["seconds"] for r in records] == [2, 2, 4, 6]
    assert records[0]["final_test_rmd"] == pytest.approx(0.1)
    assert records[0]["images_per_second"] == 150
    assert records[0]["commit"] == "abc"


def test_markdown_has_mean_and_standard_deviation_over_seeds(folder):
    lines = tables.markdown(
        collect.read_runs(collect.finished(folder).values())
    ).splitlines()
    mean = 100 * statistics.mean(ACCURACIES.values())
    std = 100 * statistics.stdev(ACCURACIES.values())
    assert "| softmax |" in lines[2]
    assert f"| {mean:.2f} ± {std:.2f}% |" in lines[2]
    assert lines[2].endswith("|  | 2 | 3 |")  # no RMD, 2 seconds
    assert "| 80.00% | 80.00% | 0.100 | 1 | 1 |" in lines[3]
    assert tables.markdown([]) == "No finished runs.\n"


def test_files_of_other_versions_count_as_the_defaults_then(folder):
    path = folder / "y" / "config.json"
    stored = json.loads(path.read_text())
    del stored["flags"]["gradient_clip"]  # as if it had not yet been a flag
    stored["flags"]["gone"] = 1
    path.write_text(json.dumps(stored))
    assert collect.key(config(ncm="decay", decay=0.5)) in collect.finished(folder)
    other = config(ncm="decay", decay=0.5, gradient_clip=2.0)
    assert collect.key(other) not in collect.finished(folder)


@pytest.mark.parametrize(
    "command", [["-m", "experiments.collect"], ["experiments/collect.py"]]
)
def test_the_command_line_writes_tables_and_says_what_is_missing(folder, command):
    path = folder / "grid.tsv"
    path.write_text("dataset\tncm\ttrain_epochs\tseed\n" + "digits\tsoftmax\t2\t{}\n" * 2)
    path.write_text(path.read_text().format(2, 3))
    out = folder / "out"
    arguments = [
        str(folder),
        f"--grid={path}",
        f"--output={out}",
        f"--keep={folder / 'kept'}",
    ]
    done = subprocess.run(
        [sys.executable, *command, *arguments],
        capture_output=True,
        text=True,
        cwd=RESULTS.parents[1],
    )
    assert done.returncode == 0, done.stderr
    assert "1 finished runs; 1 missing" in done.stdout
    missing = flags.run_name(config(seed=3))
    assert f"missing: {missing}" in done.stdout
    with (out / "results.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["final_test_accuracy"] for row in rows] == ["0.75"]
    assert json.loads((out / "results.json").read_text())[0]["seed"] == 2
    assert (out / "results.md").read_text() in done.stdout

    kept = folder / "kept" / flags.run_name(config(seed=2))
    assert collect.finished(folder / "kept") == {collect.key(config(seed=2)): kept}
    assert json.loads((kept / "config.json").read_text())["flags"]["model_dir"] == kept.name
    assert (kept / "metrics.jsonl").read_text() == (
        folder / "x/2/metrics.jsonl"
    ).read_text()


def test_evaluations_of_features_are_collected(folder):
    figures = {"accuracy": 0.9, "knn_30_0.05": 0.625, "knn_1_0.05": 0.5}
    figures |= {"learnable_parameters": 1234, "class_state": 10}
    for seed in (0, 1):
        path = folder / "x" / str(seed) / "evaluation.json"
        path.write_text(json.dumps({**figures, "knn_30_0.05": 0.6 + seed / 10}))
    discovery = {"induction_accuracy_30": 0.25, "normalized_mutual_information": 0.5}
    (folder / "y" / "discovery.json").write_text(json.dumps(discovery))
    results = collect.read_runs(collect.finished(folder).values())
    lines = tables.markdown(results).splitlines()
    assert "| kNN, k = 1 | kNN, k = 30 | induction, k = 30 | NMI |" in lines[0]
    (decay,) = (line for line in lines if "decay" in line and "0.5" in line)
    assert "| 25.00% | 0.500 |" in decay
    assert lines[0].endswith("| seconds / epoch | learnt | class state | n |")
    assert decay.endswith("| 1 |  |  | 1 |")
    (softmax,) = (line for line in lines if "softmax" in line)
    deviation = 100 * statistics.stdev([0.6, 0.7])
    assert f"| 65.00 ± {deviation:.2f}% (2 of 3) |" in softmax
    assert softmax.endswith("| 2 | 1,234 (2 of 3) | 10 (2 of 3) | 3 |")
    records = tables.records(results)
    assert [r["knn_30_0.05"] for r in records] == [None, 0.6, 0.7, None]
    collect.keep(results, folder / "kept")
    kept = folder / "kept" / flags.run_name(config(seed=1)) / "evaluation.json"
    assert json.loads(kept.read_text())["knn_30_0.05"] == 0.7


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("evaluation.json", {"split": "val"}),
        ("evaluation.json", {"split": "test", "bank": "other.npz"}),
        ("discovery.json", {"temperature": 1.0}),
    ],
)
def test_evaluations_with_other_settings_are_not_collected(folder, name, settings):
    path = folder / "y" / name
    figures = {"knn_1_0.05": 0.5, "induction_accuracy_1": 0.5}
    for found in (settings, {}):
        path.write_text(json.dumps({**figures, **found}))
        assert bool(collect.read_run(folder / "y")["evaluation"]) == (not found)


def test_columns_without_a_figure_are_left_out(folder):
    found = collect.finished(folder / "x")
    header = tables.markdown(collect.read_runs(found.values())).splitlines()[0]
    assert header == "| ncm | dataset | final test accuracy | best | seconds / epoch | n |"


def test_a_table_that_could_not_be_written_leaves_the_old_one(folder, monkeypatch):
    results = collect.read_runs(collect.finished(folder).values())
    out = folder / "out"
    old = {path: path.read_text() for path in tables.write(results[:1], out)}
    assert len(old) == 3

    def replace(source, target):
        raise KeyboardInterrupt  # as a signal, at the worst time

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        tables.write(results, out)
    assert {path: path.read_text() for path in out.iterdir()} == old


def test_what_is_no_run_is_passed_over(folder):
    for i, (name, text) in enumerate(
        [("result.json", "[1]"), ("result.json", "{}"), ("config.json", '{"flags": 1}')]
    ):
        damaged = write_run(folder / "damaged" / f"{i}", config(seed=9))
        (damaged / name).write_text(text)
    assert len(collect.finished(folder)) == 4


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["mistyped", "unfinished"])
def test_a_folder_without_runs_empties_no_table(folder, name):
    collect.main([str(folder), f"--output={folder}"])
    before = (folder / "results.json").read_text()
    with pytest.raises(SystemExit, match="collect: FOLDERS must have finished runs below"):
        collect.main([str(folder / name), f"--output={folder}"])
    assert (folder / "results.json").read_text() == before


@pytest.mark.bad_input
def test_a_grid_that_the_table_would_replace_is_refused(folder):
    path = folder / "results.tsv"
    path.write_text("dataset\tncm\ndigits\tsoftmax\n")
    before = path.read_text()
    with pytest.raises(SystemExit, match="GRID must be another file than what is written"):
        collect.main([str(folder), f"--grid={path}", f"--output={folder}"])
    assert path.read_text() == before
    assert not (folder / "results.json").exists()


@pytest.mark.bad_input
def test_runs_are_not_kept_in_their_own_place(folder):
    name = flags.run_name(config(seed=5))
    write_run(folder / "z" / name, config(seed=5))
    before = (folder / "z" / name / "config.json").read_text()
    with pytest.raises(SystemExit, match="--keep must be another folder than that of the"):
        collect.main([str(folder), f"--output={folder}", f"--keep={folder / 'z'}"])
    assert (folder / "z" / name / "config.json").read_text() == before


@pytest.mark.bad_input
@pytest.mark.parametrize("option", ["output", "keep"])
def test_a_file_for_a_folder_is_refused(folder, option):
    (folder / "file").write_text("mine")
    with pytest.raises(SystemExit, match=r"collect: \[Errno .*file"):
        collect.main(
            [str(folder), f"--output={folder / 'out'}", f"--{option}={folder / 'file'}"]
        )
    assert (folder / "file").read_text() == "mine"


@pytest.mark.bad_input
def test_a_malformed_grid_is_refused(folder):
    (folder / "grid.tsv").write_text("lr\n0.1\n")
    with pytest.raises(SystemExit, match="columns must be flags of cifar_main"):
        collect.main([str(folder), f"--grid={folder / 'grid.tsv'}"])


def test_committed_results_are_those_of_the_grids():
    """What is committed can be read, lies under its name, and tells no paths."""
    found = collect.finished(RESULTS / "sweep")
    grids = set(RESULTS.parent.glob("*.tsv")) - {RESULTS.parent / "published.tsv"}
    rows = [row for path in grids for row in grid.read(path)]
    assert {row.run for row in rows} >= {path.name for path in found.values()}
    for path in found.values():
        stored = json.loads((path / "config.json").read_text())["flags"]
        name = flags.run_name(runs.flags_identity(stored))
        assert stored["model_dir"] == path.name == name
        assert len(collect.read_metrics(path)) == stored["train_epochs"]


@pytest.mark.parametrize("flags_after", ["", "_dtype=bf16"])
def test_runs_that_begin_with_runs_of_other_seeds(tmp_path, flags_after):
    """They are one setting, with what they knew before training."""
    for seed, initial in enumerate((0.2, 0.4)):
        values = {"init_from": f"runs/digits_seed={seed}{flags_after}", "seed": seed}
        write_run(tmp_path / f"{seed}", config(**values), 0.5)
        path = tmp_path / f"{seed}" / "result.json"
        result = json.loads(path.read_text())
        path.write_text(json.dumps({**result, "initial_test_accuracy": initial}))
    results = collect.read_runs(collect.finished(tmp_path).values())
    (row,) = tables.markdown(results).splitlines()[2:]
    assert f"| runs/digits{flags_after} | 30.00 ± 14.14% | 50.00 ± 0.00% |" in row
    assert row.endswith("| 2 |")
    assert [record["initial_test_accuracy"] for record in tables.records(results)] == [
        0.2,
        0.4,
    ]
