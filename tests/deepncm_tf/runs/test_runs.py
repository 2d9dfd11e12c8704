# SPDX-License-Identifier: Apache-2.0
"""A run's folder: locked while in use, checked when it is done, never half-written."""

import errno
import fcntl
import json
import multiprocessing
import os
import subprocess

import pytest

from deepncm_tf import flags, runs
from deepncm_tf.utils import files


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


NESTED = '{"flags": %s1%s, "versions": {}}'


def spoil(path, what):
    """Makes something of a run's folder that is not what it should be."""
    if what == "link to itself":
        path.symlink_to(path)
        return
    path.mkdir()
    name, kind = what.split()
    if kind == "folder":
        (path / name).mkdir()
    elif kind == "pipe":
        os.mkfifo(path / name)
    elif kind == "link":
        (path.parent / "thesis.tex").write_text("precious")
        (path / name).symlink_to(path.parent / "thesis.tex")
    elif kind == "nested":
        (path / name).write_text(NESTED % ("[" * 100_000, "]" * 100_000))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "what",
    [
        "link to itself",
        "config.json folder",
        "config.json pipe",
        "config.json nested",
        "lock folder",
        "lock pipe",
        "lock link",
    ],
)
def test_what_is_no_file_of_a_run(tmp_path, what):
    spoil(tmp_path / "run", what)
    for refused in (folder_of(tmp_path / "run").check, folder_of(tmp_path / "run").open):
        with pytest.raises(runs.RunError, match=r"--model_dir must be|config\.json is dam"):
            refused()
    if what.startswith("config"):
        with pytest.raises(runs.RunError):
            folder_of(tmp_path / "run").result()
    if what == "lock link":
        assert (tmp_path / "thesis.tex").read_text() == "precious"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("call", "code"), [("flock", errno.ENOLCK), ("listdir", errno.EACCES)]
)
def test_what_the_system_refuses(tmp_path, monkeypatch, call, code):
    def refuse(*args):
        raise OSError(code, os.strerror(code))

    opened(tmp_path / "run").close()
    monkeypatch.setattr(fcntl if call == "flock" else os, call, refuse)
    for refused in (folder_of(tmp_path / "run").check, folder_of(tmp_path / "run").open):
        with pytest.raises(runs.RunError, match=os.strerror(code)):
            refused()


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


@pytest.mark.bad_input
@pytest.mark.parametrize("flag", ["train_epochs", "max_train_steps"])
def test_a_run_cannot_be_made_longer(tmp_path, flag):
    opened(tmp_path / "run", **{flag: 3}).close()
    with pytest.raises(runs.RunError, match=r"cannot be changed .*another --model_dir"):
        folder_of(tmp_path / "run", **{flag: 5}).check()
    with pytest.raises(runs.RunError, match="another run") as error:
        folder_of(tmp_path / "run", **{flag: 5, "seed": 2}).check()
    assert "length" not in str(error.value)


def test_a_full_disk_is_one_line(tmp_path):
    folder = opened(tmp_path / "run")
    said = r"^No space left on device: nothing more"
    with pytest.raises(runs.RunError, match=said), folder.writing():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
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
    files.write_json(path / "file.json", {"a": 1})

    with pytest.raises(OSError, match="No space") as error:
        files.write_atomically(path / "file.json", lambda p: p.write_bytes(bytes(2**21)))
    assert error.value.errno == errno.ENOSPC
    assert json.loads((path / "file.json").read_text()) == {"a": 1}
    assert os.listdir(path) == ["file.json"]


def test_a_flag_that_an_earlier_version_did_not_have_is_what_it_did_then():
    config = flags.resolve({"ncm": "dnc", "accumulate_steps": 1})
    then = flags.resolve({"ncm": "dnc", "centroid_momentum_schedule": "constant"})
    for name in ("accumulate_steps", "centroid_momentum_schedule"):
        del config[name]
    assert runs.flags_identity(config) == flags.identity(then)
