# SPDX-License-Identifier: Apache-2.0
"""Pictures that were read in an earlier process and have not changed are not read again."""

import os
import pathlib

import numpy as np
import picture_folders
import pytest

from deepncm_tf.data import folders, image_files, scan_cache

HOUR = 3600


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder whose pictures were written an hour ago, and a place for the cache."""
    monkeypatch.setenv(scan_cache.VARIABLE, str(tmp_path / "cache"))
    root = picture_folders.write(tmp_path / "p", {"a": 4, "b": 3})
    for path in root.rglob("*.*"):
        make_old(path)
    return root


def make_old(path):
    then = path.stat().st_mtime - HOUR
    os.utime(path, (then, then))


@pytest.fixture
def read(monkeypatch):
    """Names of the files that are read."""
    names, decode = [], image_files.decode

    def decode_and_note(path, *args, **kwargs):
        names.append(f"{pathlib.Path(path).parent.name}/{pathlib.Path(path).name}")
        return decode(path, *args, **kwargs)

    monkeypatch.setattr(image_files, "decode", decode_and_note)
    return names


def load(root, **kwargs):
    return {
        name: len(labels) for name, (_, labels) in folders.load(root, 8, **kwargs).items()
    }


def test_pictures_of_a_split_alone_leave_what_is_known_of_all(pictures, read):
    for split in ("train", "test"):
        (pictures.parent / split).symlink_to(pictures)
    (pictures / "a" / "x.png").write_bytes(b"no picture")
    load(pictures.parent, on_bad_image="skip")
    folders.load_unlabeled(pictures.parent, 8, "skip")
    read.clear()
    load(pictures.parent, on_bad_image="skip")
    assert read == ["a/x.png", "a/x.png"]


def test_only_what_is_new_is_read(pictures, read):
    first = load(pictures)
    assert len(read) == 7
    read.clear()
    assert load(pictures) == first
    assert load(pictures / ".." / "p") == first
    assert read == []
    picture_folders.write_class(pictures / "c", 2, 1)
    path = pictures / "a" / "001.jpg"
    os.utime(path, (HOUR, HOUR))
    os.rename(pictures / "b" / "000.png", pictures / "b" / "009.png")
    load(pictures)
    assert sorted(read) == ["a/001.jpg", "b/009.png", "c/000.png"]


def test_what_has_just_been_changed_is_read_again(pictures, read):
    os.utime(pictures / "a" / "000.png")
    for _ in range(2):
        read.clear()
        load(pictures)
    assert read == ["a/000.png"]


def test_what_could_not_be_read_is_read_again(pictures, read, capsys):
    bad = pictures / "a" / "000.png"
    bad.write_bytes(b"no picture")
    make_old(bad)
    for expected in (7, 1):
        read.clear()
        load(pictures, on_bad_image="skip")
        assert len(read) == expected
        assert f"Received: {bad}" in capsys.readouterr().err
    with pytest.raises(folders.FolderError, match="1 of 7 pictures cannot be read"):
        load(pictures)


@pytest.mark.parametrize("damage", ["empty", "other", "folder", "no folder"])
def test_a_cache_that_is_damaged(pictures, read, tmp_path, damage, monkeypatch):
    load(pictures)
    (file,) = (tmp_path / "cache").iterdir()
    if damage == "empty":
        file.write_bytes(b"")
    elif damage == "other":
        np.save(file, np.arange(7.5))
    elif damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        (tmp_path / "file").touch()
        monkeypatch.setenv(scan_cache.VARIABLE, str(tmp_path / "file" / "cache"))
    read.clear()
    load(pictures)
    assert len(read) == 7


def test_no_cache(pictures, read, tmp_path, monkeypatch):
    monkeypatch.setenv(scan_cache.VARIABLE, "")
    for _ in range(2):
        load(pictures)
    assert len(read) == 14
    assert not (tmp_path / "cache").exists()


def test_the_place_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv(scan_cache.VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path))
    file = scan_cache._file_of("a")
    assert file.parent == tmp_path / ".cache" / "deepncm_tf"
    assert file != scan_cache._file_of("b")
