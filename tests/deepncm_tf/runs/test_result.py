# SPDX-License-Identifier: Apache-2.0
"""The result of a run counts only where all its files have their checksums."""

import subprocess

import pytest
from run_folders import opened

from deepncm_tf import runs


@pytest.fixture
def finished(tmp_path):
    folder = opened(tmp_path / "run")
    (folder.path / "metrics.jsonl").write_text('{"epoch": 1}\n')
    (folder.path / "model.keras").write_bytes(bytes(1000))
    folder.finish({"final_test_accuracy": 0.5})
    folder.close()
    return folder


def test_result(finished):
    assert finished.result() == {"final_test_accuracy": 0.5}
    sums = subprocess.run(
        ["sha256sum", "--check", "--quiet", runs.SUMS], cwd=finished.path, check=False
    )
    assert sums.returncode == 0


@pytest.mark.parametrize("name", runs.SUMMED)
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_file_of_a_finished_run(finished, name, damage, capsys):
    path = finished.path / name
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    if damage == "flip":
        path.write_bytes(content)
    elif damage == "truncate":
        path.write_bytes(content[:-1])
    else:
        path.unlink()
    assert finished.result() is None
    if (damage, name) != ("remove", "result.json"):  # then the run is not finished
        assert f"{name} in {finished.path}: not the checksums" in capsys.readouterr().err


def test_damaged_sums(finished):
    (finished.path / runs.SUMS).write_bytes(b"\xff\x00 one two three\n")
    assert finished.result() is None
