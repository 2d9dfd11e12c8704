# SPDX-License-Identifier: Apache-2.0
"""A run's folder: locked while in use, checked when it is done, never half-written."""

import errno
import json
import multiprocessing
import os
import subprocess

import pytest

from deepncm_tf import flags, runs


def folder_of(path, **values):
    return runs.RunFolder(flags.resolve({**values, "model_dir": str(path)}))


def opened(path, **values):
    folder = folder_of(path, **values)
    folder.open()
    return folder


@pytest.fixture
def finished(tmp_path):
    folder = opened(tmp_path / "run")
    (folder.path / "metrics.jsonl").write_text('{"epoch": 1}\n')
    (folder.path / "model.keras").write_bytes(bytes(1000))
    folder.finish({"final_test_accuracy": 0.5})
    folder.close()
    return folder


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


@pytest.mark.bad_input
@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"flags": 3, "versions": {}}'])
def test_a_foreign_or_damaged_config(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    for refused in (folder_of(tmp_path).check, folder_of(tmp_path).result):
        with pytest.raises(runs.RunError, match=r"config\.json is damaged, or not that of"):
            refused()
    folder = opened(tmp_path, overwrite=True)  # nothing else is in the folder
    assert json.loads((tmp_path / "config.json").read_text())["flags"]["ncm"] == "decay"
    folder.close()


@pytest.mark.bad_input
def test_names_that_cannot_be(tmp_path, monkeypatch):
    with pytest.raises(runs.RunError, match="--model_dir must be a folder"):
        folder_of(tmp_path / ("x" * 300)).check()
    monkeypatch.chdir(tmp_path)
    opened(".").close()
    assert (tmp_path / "config.json").exists()


@pytest.fixture
def mount(tmp_path):
    """Mounts a small file system; skips where that is not allowed."""
    mounted = []

    def mount_at(path, *options):
        path.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(path)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("file systems cannot be mounted here")
        mounted.append(path)
        return path

    yield mount_at
    for path in mounted:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.bad_input
def test_a_read_only_folder(tmp_path, mount):
    path = mount(tmp_path / "disk", "ro", "size=1m")
    for refused in (folder_of(path / "run").check, folder_of(path / "run").open):
        with pytest.raises(runs.RunError, match="must be a folder that can be written"):
            refused()


def test_a_full_disk_keeps_what_was_there(tmp_path, mount):
    path = mount(tmp_path / "disk", "size=1m")
    runs.write_json(path / "file.json", {"a": 1})

    with pytest.raises(OSError, match="No space") as error:
        runs.write_atomically(path / "file.json", lambda p: p.write_bytes(bytes(2**21)))
    assert error.value.errno == errno.ENOSPC
    assert json.loads((path / "file.json").read_text()) == {"a": 1}
    assert os.listdir(path) == ["file.json"]


def test_a_flag_that_an_earlier_version_did_not_have_is_what_it_did_then():
    config = flags.resolve({"ncm": "dnc", "accumulate_steps": 1})
    then = flags.resolve({"ncm": "dnc", "centroid_momentum_schedule": "constant"})
    for name in ("accumulate_steps", "centroid_momentum_schedule"):
        del config[name]
    assert runs.flags_identity(config) == flags.identity(then)
