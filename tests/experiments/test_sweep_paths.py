# SPDX-License-Identifier: Apache-2.0
"""Names and values of a sweep are data; its files are written over no other."""

import os
import pathlib
import shutil

import pytest
from sweeping import DEMO, ROOT, needs_parallel

from experiments import grid
from experiments import sweep as experiments_sweep


@needs_parallel
def test_values_are_not_evaluated(sweep, tmp_path):
    touch = f"touch {tmp_path}/evaluated"
    value = f"$({touch}) `{touch}`; {touch}; a  'b' \"c\" {{}} \\ * \\$({touch})"
    grid = tmp_path / "odd.tsv"
    grid.write_text(f"dataset\tdata_dir\tncm\ndigits\t{value}\tsoftmax\n")
    assert sweep.run(str(grid)).returncode == 0
    assert [entry["data_dir"] for entry in sweep.started()] == [value]
    assert not (tmp_path / "evaluated").exists()


ODD = " {run} n{1} {= system('touch evaluated') =} $(touch evaluated) `touch evaluated` "
ODD += "; touch evaluated & 'a' \"b\" \\ * ? [x] ~ # % {} {.} {#} {dataset} , \udcff "


@needs_parallel
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(ODD, id="odd"),
        pytest.param(f"-{ODD}", id="dash", marks=pytest.mark.slow),
        pytest.param("-x", id="option", marks=pytest.mark.slow),
    ],
)
def test_paths_are_data(sweep, tmp_path, name):
    inside = pathlib.Path(os.path.relpath(tmp_path, ROOT))
    grid = tmp_path / f"{name}.tsv"
    text = ODD.replace("\udcff", "").strip() + "{log} {model_dir}"
    grid.write_text(f"dataset\tdata_dir\tncm\ndigits\t{text}\tsoftmax\n")
    machines = tmp_path / f"{name}.machines"
    machines.write_text("1/:\n")
    python = tmp_path / name / "python"
    python.parent.mkdir()
    sweep.command((), {})
    shutil.move(tmp_path / "python", python)
    sweep.runs = tmp_path / name / name
    done = sweep.run(
        str(inside / grid.name),
        "--runs",
        str(inside / name / name),
        "--results",
        str(inside / f"{name}.none"),
        "--sshloginfile",
        str(inside / machines.name),
        PYTHON=str(python),
    )
    assert done.returncode == 0, done.stderr
    assert [entry["data_dir"] for entry in sweep.started()] == [text]
    (run,) = sweep.names(grid)
    assert {path.name for path in sweep.runs.iterdir()} == {
        *(f"{name}.{suffix}" for suffix in ("results.tsv", "results.json", "results.md")),
        *(f"{name}.joblog", "logs", "started", run),
    }
    assert (sweep.runs / "logs" / run).exists()
    assert sweep.run(str(grid), "--status", PYTHON=str(python)).returncode == 0
    for folder in (ROOT, tmp_path, pathlib.Path.home()):
        assert not (folder / "evaluated").exists()


@needs_parallel
@pytest.mark.parametrize("link", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_grid_in_the_folder_of_the_runs_is_kept(sweep, link):
    sweep.runs.mkdir()
    text = "ncm\tdataset\nsoftmax\tdigits\n"
    grid = sweep.runs / "mine.tsv"
    if link:
        (sweep.folder / "elsewhere.tsv").write_text(text)
        grid.symlink_to(sweep.folder / "elsewhere.tsv")
    else:
        grid.write_text(text)
    for _ in range(2):
        assert sweep.run(str(grid)).returncode == 0
    assert grid.read_text() == text
    assert grid.is_symlink() == link
    assert "final_test_accuracy" in (sweep.runs / "mine.results.tsv").read_text()


@pytest.mark.bad_input
@pytest.mark.parametrize("action", ["plan", "status", "dry-run", "report"])
def test_a_folder_of_runs_that_is_a_file_is_refused(tmp_path, action):
    (tmp_path / "file").write_text("mine")
    for runs in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SystemExit, match="--runs must be a folder that can be written"):
            experiments_sweep.main([action, str(ROOT / DEMO), f"--runs={runs}"])
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["a.results.tsv", "a.results.md", "a.joblog"])
def test_a_grid_is_not_named_as_an_output(tmp_path, name):
    (tmp_path / name).write_text("ncm\tdataset\nsoftmax\tdigits\n")
    with pytest.raises(SystemExit, match=r"GRID must not be named \*\.results\.\* or"):
        experiments_sweep.main(["plan", str(tmp_path / name), f"--runs={tmp_path}"])


@pytest.mark.bad_input
@pytest.mark.parametrize("output", ["g.joblog", "g.results.md", "logs/RUN"])
def test_an_output_that_is_the_grid_is_refused(tmp_path, output):
    path = tmp_path / "g.tsv"
    path.write_text("ncm\tdataset\nsoftmax\tdigits\n")
    output = tmp_path / output.replace("RUN", grid.read(path)[0].run)
    output.parent.mkdir(exist_ok=True)
    output.hardlink_to(path)
    with pytest.raises(SystemExit, match="GRID must be another file than what is written"):
        experiments_sweep.main(["plan", str(path), f"--runs={tmp_path}"])
