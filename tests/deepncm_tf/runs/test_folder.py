# SPDX-License-Identifier: Apache-2.0
"""Folders that cannot be a run's, or this run's: foreign, damaged, read-only, full."""

import errno
import fcntl
import json
import os
import subprocess

import pytest
from run_folders import folder_of, opened

from deepncm_tf import flags, runs
from deepncm_tf.utils import files


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


def test_a_warning_of_other_packages_that_were_recorded(tmp_path, capsys):
    opened(tmp_path).close()
    config = json.loads((tmp_path / "config.json").read_text())
    del config["versions"]["pillow"]  # which earlier versions did not record
    files.write_json(tmp_path / "config.json", config)
    opened(tmp_path).close()
    assert capsys.readouterr().err == ""
    config["versions"] |= {"keras": "3.0", "gone": "1.0"}
    files.write_json(tmp_path / "config.json", config)
    opened(tmp_path).close()
    first, second = capsys.readouterr().err.splitlines()
    assert "was begun with gone 1.0; this is None." in first
    assert "was begun with keras 3.0; this is " in second
