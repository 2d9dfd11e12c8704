# SPDX-License-Identifier: Apache-2.0
"""A run's folder is used by one process, and must stay where it was locked."""

import fcntl
import multiprocessing
import os

import pytest
from run_folders import folder_of, opened

from deepncm_tf import runs
from deepncm_tf.utils import files


def hold(path, ready, done):
    folder = opened(path)
    ready.set()
    done.wait()
    folder.close()


@pytest.mark.bad_input
def test_a_second_process_is_refused(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path / "run", ready, done))
    process.start()
    assert ready.wait(60)
    try:
        for overwrite in (False, True):
            second = folder_of(tmp_path / "run", overwrite=overwrite)
            for refused in (second.check, second.open):
                with pytest.raises(runs.RunError, match=f"in use by process {process.pid}"):
                    refused()
    finally:
        done.set()
        process.join()
    opened(tmp_path / "run").close()
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.bad_input
def test_a_lock_whose_text_is_damaged(tmp_path):
    first = opened(tmp_path / "run")
    (tmp_path / "run" / runs.LOCK).write_bytes(b"\xff\xfe by whom")
    with pytest.raises(runs.RunError, match=r"is in use by .* by whom"):
        folder_of(tmp_path / "run").check()
    first.close()


def test_a_check_leaves_the_lock_as_it_is(tmp_path):
    opened(tmp_path / "run").close()
    (tmp_path / "run" / runs.LOCK).write_text("process 1 on another")
    folder_of(tmp_path / "run").check()
    assert (tmp_path / "run" / runs.LOCK).read_text() == "process 1 on another"


def test_checks_at_the_same_time(tmp_path, monkeypatch):
    """As by the command lines of several workers."""
    opened(tmp_path / "run").close()
    first, second = folder_of(tmp_path / "run"), folder_of(tmp_path / "run")
    checked = []

    def check_second():  # while the first holds the lock
        second.check()
        checked.append(second)

    monkeypatch.setattr(first, "check_lock", check_second)
    first.check()
    assert checked == [second]
    opened(tmp_path / "run").close()


@pytest.mark.bad_input
@pytest.mark.parametrize("again", [True, False])
def test_a_folder_that_is_moved_while_in_use(tmp_path, again):
    moved = opened(tmp_path / "run")
    os.rename(tmp_path / "run", tmp_path / "elsewhere")
    if again:
        other = opened(tmp_path / "run", ncm="softmax")
    before = set(tmp_path.rglob("*"))
    for refused in (moved.writing().__enter__, lambda: moved.finish({})):
        with pytest.raises(
            runs.RunError, match="no longer the folder that this run locked"
        ):
            refused()
    assert set(tmp_path.rglob("*")) == before
    if again:
        with other.writing():
            pass
        other.close()
    moved.close()


@pytest.mark.bad_input
def test_a_folder_that_is_moved_during_a_write(tmp_path):
    moved = opened(tmp_path / "run")

    def write(path):
        path.write_text("text")
        os.rename(tmp_path / "run", tmp_path / "elsewhere")

    with pytest.raises(runs.RunError, match="no longer the folder"), moved.writing():
        files.write_atomically(moved.path / "metrics.jsonl", write)
    moved.close()


@pytest.mark.bad_input
def test_a_folder_that_is_moved_while_it_is_locked(tmp_path, monkeypatch):
    opened(tmp_path / "run").close()
    flock = fcntl.flock

    def move_and_lock(*args):
        os.rename(tmp_path / "run", tmp_path / "elsewhere")
        (tmp_path / "run").mkdir()
        flock(*args)

    monkeypatch.setattr(fcntl, "flock", move_and_lock)
    with pytest.raises(runs.RunError, match="no longer the folder"):
        folder_of(tmp_path / "run").open()
    assert list((tmp_path / "run").iterdir()) == []


def test_a_link_that_is_given_another_folder(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "one")
    folder = opened(tmp_path / "link")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(tmp_path)
    with folder.writing():
        files.write_json(folder.path / "metrics.jsonl", 1)
    folder.close()
    assert (tmp_path / "one" / "metrics.jsonl").exists()
