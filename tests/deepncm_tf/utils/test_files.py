# SPDX-License-Identifier: Apache-2.0
"""Files are whole or not there, and on the disk before anything relies on them."""

import os

import numpy as np
import pytest

from deepncm_tf import runs
from deepncm_tf.runs.checkpoints import Checkpoints, Progress
from deepncm_tf.utils import files


@pytest.fixture
def calls(monkeypatch):
    """What is synced and renamed, in order: names of files and folders."""
    found = []
    fsync, replace = os.fsync, os.replace

    def record_sync(descriptor):
        found.append(("sync", os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def record_rename(source, target):
        found.append(("rename", os.path.basename(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "replace", record_rename)
    return found


def written_for_good(name, folder):
    temporary = f".tmp-{os.getpid()}-{name}"
    return [("sync", temporary), ("rename", name), ("sync", folder)]


def test_a_file_is_synced_before_it_is_renamed_and_its_folder_after(tmp_path, calls):
    files.write_json(tmp_path / "one.json", 1)
    assert calls == written_for_good("one.json", tmp_path.name)


def test_a_file_that_cannot_be_synced_is_not_renamed(tmp_path, monkeypatch):
    files.write_json(tmp_path / "one.json", 1)

    def fail(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        files.write_json(tmp_path / "one.json", 2)
    assert (tmp_path / "one.json").read_text() == "1\n"
    assert os.listdir(tmp_path) == ["one.json"]


def test_a_checkpoint_and_its_folder_are_synced(tmp_path, calls):
    Checkpoints(tmp_path / "checkpoints", []).save(Progress([{"epoch": 1}]))
    assert calls[0] == ("sync", tmp_path.name)  # which has a new name in it
    assert calls[1:] == written_for_good("epoch-00001-batch-0000000.npz", "checkpoints")


def test_the_result_comes_after_what_it_sums_up(tmp_path, calls):
    folder = runs.RunFolder({"model_dir": str(tmp_path), "overwrite": False})
    for name in ("metrics.jsonl", "model.keras"):
        (tmp_path / name).write_bytes(np.zeros(3).tobytes())
    folder.finish({"final_test_accuracy": 0.5})
    assert calls[-3:] == [
        ("sync", tmp_path.name),
        ("rename", "result.json"),
        ("sync", tmp_path.name),
    ]
    assert [name for what, name in calls if what == "rename"][-2:] == [
        runs.SUMS,
        "result.json",
    ]
