# SPDX-License-Identifier: Apache-2.0
"""A run is started where there is something: it goes on, is refused, or replaces it."""

import os

import pytest
from interrupting import InterruptedRunError, interrupt
from same_run import metrics
from small_runs import config

from deepncm_tf import runs
from deepncm_tf.data import datasets
from deepncm_tf.runs import callbacks, training

pytestmark = pytest.mark.usefixtures("few_digits")


def test_a_finished_run_is_not_repeated(tmp_path, small_network, capsys, monkeypatch):
    first = training.run(config(tmp_path / "run", train_epochs=1))
    monkeypatch.setattr(datasets, "load", None)  # would fail if it were called
    assert training.run(config(tmp_path / "run", train_epochs=1)) == first
    assert "Finished before" in capsys.readouterr().out


@pytest.mark.bad_input
def test_another_run_in_the_folder_is_refused(tmp_path, small_network):
    folder = tmp_path / "run"
    training.run(config(folder, train_epochs=1))
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(runs.RunError, match=r"--seed: 0 there, 5 here.*--overwrite"):
        training.run(config(folder, train_epochs=1, seed=5))
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    with pytest.raises(runs.RunError, match="--seed: 0 there, 5 here"):
        runs.RunFolder(config(folder, train_epochs=1, seed=5)).check()


def test_overwrite(tmp_path, small_network, monkeypatch):
    folder = tmp_path / "run"
    training.run(config(folder, train_epochs=1))
    before = (folder / "metrics.jsonl").read_bytes()
    anew = config(folder, train_epochs=1, seed=5, overwrite=True)
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="no such"):
        patch.setattr(training, "build_model", lambda config, plan: int("no such"))
        training.run(anew)
    assert (tmp_path / "run.old1" / "metrics.jsonl").read_bytes() == before
    training.run(config(folder, train_epochs=1, seed=5))
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    training.run(anew)
    assert (folder / "result.json").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.bad_input
def test_a_folder_that_is_moved_stops_the_run(tmp_path, small_network, monkeypatch):
    """Another run takes its path meanwhile, and stays as it is."""
    folder, other = tmp_path / "run", config(tmp_path / "run", ncm="softmax")
    epoch_begin = callbacks.Record.on_epoch_begin

    def move(self, epoch, logs=None):
        epoch_begin(self, epoch, logs)
        if epoch == 1:
            os.rename(folder, tmp_path / "elsewhere")
            started = runs.RunFolder(other)
            started.open()
            started.close()

    monkeypatch.setattr(callbacks.Record, "on_epoch_begin", move)
    with pytest.raises(runs.RunError, match="no longer the folder that this run locked"):
        training.run(config(folder))
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "lock"]
    assert len(metrics(tmp_path / "elsewhere")) == 1


@pytest.mark.bad_input
@pytest.mark.parametrize("overwrite", [False, True])
def test_other_files_are_never_touched(tmp_path, overwrite):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").touch()
    one = config(tmp_path / "run", overwrite=overwrite)
    for refused in (runs.RunFolder(one).check, lambda: training.run(one)):
        with pytest.raises(runs.RunError, match=r"other files, such as thesis\.tex"):
            refused()
    assert (tmp_path / "run" / "thesis.tex").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
def test_another_version_is_told(tmp_path, small_network, capsys, monkeypatch):
    one = config(tmp_path / "run")
    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        interrupt(patch, 0, "after")
        training.run(one)
    monkeypatch.setattr(runs.folder, "versions", lambda: {"keras": "99.0"})
    training.run(one)
    assert "begun with keras 3." in capsys.readouterr().err
