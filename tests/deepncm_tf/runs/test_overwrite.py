# SPDX-License-Identifier: Apache-2.0
"""What --overwrite moves aside, and what killed runs left, is deleted in the end."""

import errno
import json
import os

import pytest
from run_folders import folder_of, opened

from deepncm_tf import runs


@pytest.mark.bad_input
def test_another_start_right_after_the_old_run_was_moved_aside(tmp_path, monkeypatch):
    opened(tmp_path / "run").close()
    rename = os.rename

    def rename_and_start(*args):
        rename(*args)
        opened(tmp_path / "run", ncm="softmax").close()

    monkeypatch.setattr(os, "rename", rename_and_start)
    with pytest.raises(runs.RunError, match="Another process has begun a run in"):
        opened(tmp_path / "run", overwrite=True)
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["flags"]["ncm"] == "softmax"
    assert (tmp_path / "run.old1" / "config.json").exists()


def names(path):
    return sorted(p.name for p in path.iterdir())


def test_overwrite_through_a_link(tmp_path):
    opened(tmp_path / "disk" / "run").close()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "run")
    anew = opened(tmp_path / "link", overwrite=True, seed=5)
    assert names(tmp_path / "disk") == ["run", "run.old1"]
    anew.started()
    anew.close()
    assert names(tmp_path / "disk") == ["run"]
    assert json.loads((tmp_path / "link" / "config.json").read_text())["flags"]["seed"] == 5


def test_replaced_runs_of_interrupted_starts_are_deleted(tmp_path):
    opened(tmp_path / "run").close()
    for _ in range(2):
        opened(tmp_path / "run", overwrite=True).close()  # ends before its first checkpoint
    assert names(tmp_path) == ["run", "run.old1", "run.old2"]
    folder = opened(tmp_path / "run")
    assert names(tmp_path) == ["run", "run.old1", "run.old2"]
    folder.started()
    folder.close()
    assert names(tmp_path) == ["run"]


def test_only_what_was_moved_aside_is_deleted(tmp_path):
    opened(tmp_path / "run").close()
    opened(tmp_path / "run", overwrite=True).close()
    again = opened(tmp_path / "run.old1")  # goes on in the old one
    opened(tmp_path / "run.old2").close()  # a user's names
    (tmp_path / "run.old3").mkdir()
    (tmp_path / "run.old4").symlink_to(tmp_path / "run.old1")
    (tmp_path / "run.old5").write_text("text")
    before = names(tmp_path)
    for _ in range(2):
        folder = opened(tmp_path / "run")
        folder.started()
        folder.close()
        again.close()
    assert names(tmp_path) == before
    assert (tmp_path / "run.old1" / "config.json").exists()


def test_a_replaced_run_that_cannot_be_deleted(tmp_path, monkeypatch, capsys):
    opened(tmp_path / "run").close()
    folder = opened(tmp_path / "run", overwrite=True)

    def refuse(path):
        raise OSError(errno.EBUSY, "Device or resource busy", str(path))

    monkeypatch.setattr(os, "rmdir", refuse)
    folder.started()
    folder.close()
    assert "replaced could not be deleted (Device or resource" in capsys.readouterr().err


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_killed_processes_left_is_removed(tmp_path, overwrite):
    folder = opened(tmp_path / "run")
    folder.close()
    parts = [folder.path, folder.path / "checkpoints", folder.path / "summaries"]
    for part in parts:
        part.mkdir(exist_ok=True)
        (part / ".tmp-123-model.keras").touch()
        (part / ".tmp-123-.tmp-123-result.json").touch()
    (folder.path / "checkpoints" / ".tmp-mine").touch()
    folder_of(tmp_path / "run").check()
    opened(tmp_path / "run", overwrite=overwrite).close()
    left = sorted(p.name for p in (tmp_path / "run").rglob(".tmp*"))
    assert left == ([] if overwrite else [".tmp-mine"])
