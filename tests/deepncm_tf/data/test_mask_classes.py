# SPDX-License-Identifier: Apache-2.0
"""The classes of masks: their names in a file, and which are without a pixel."""

import re

import mask_folders
import numpy as np
import pytest
from PIL import Image

from deepncm_tf.data import mask_files, segmentation
from deepncm_tf.data.folders import FolderError


@pytest.fixture(autouse=True)
def forget_names():
    yield
    for function in vars(segmentation).values():
        getattr(function, "cache_clear", lambda: None)()


@pytest.fixture(params=[True, False], ids=["in memory", "not in memory"])
def in_memory(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(segmentation, "IN_MEMORY", 0)


@pytest.mark.parametrize(
    "data",
    [
        "Straße\nwood\n\n \n".encode(),
        "Straße\r\nwood\r\n".encode("utf-8-sig"),
    ],
    ids=["plain", "of Windows"],
)
def test_names_of_classes_in_a_file(tmp_path, data):
    mask_folders.write(tmp_path)
    (tmp_path / "classes.txt").write_bytes(data)
    assert segmentation.class_names(f"folder:{tmp_path}") == ["Straße", "wood"]


def test_names_with_tabs(tmp_path):
    (tmp_path / "classes.txt").write_text("road\t128  64 128\nsky\t70 130 180\n")
    assert segmentation.class_names(f"folder:{tmp_path}") == [
        "road 128 64 128",
        "sky 70 130 180",
    ]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("Straße\nwood\n".encode("latin-1"), "must be in UTF-8 (.*). Received: PATH"),
        ("road\nwood\n".encode("utf-16"), "must be in UTF-8 (.*). Received: PATH"),
        ("road\nwood\n".encode("utf-16-le"), "Received: 'r.*' in line 1 of PATH"),
        (b"road\n\nwood\n", "in each line.*Received: '' in line 2 of PATH"),
        (b"\nroad\nwood\n", "in each line.*Received: '' in line 1 of PATH"),
    ],
    ids=["latin-1", "utf-16", "utf-16-le", "blank line", "blank first line"],
)
def test_names_that_cannot_be_read(tmp_path, data, message):
    mask_folders.write(tmp_path)
    (tmp_path / "classes.txt").write_bytes(data)
    message = message.replace("PATH", re.escape(str(tmp_path / "classes.txt")))
    with pytest.raises(FolderError, match=message):
        segmentation.class_names(f"folder:{tmp_path}")


def write(root, values, split="."):
    """Images and masks that have some values; `classes.txt` of three classes."""
    mask_folders.write(root / split, 5)
    for path in (root / split / "masks").iterdir():
        mask = np.resize(np.array(values, "uint8"), mask_folders.SHAPE)
        Image.fromarray(mask).save(path)
    (root / "classes.txt").write_text("sky\nroad\ntree\n")


@pytest.mark.bad_input
@pytest.mark.usefixtures("in_memory")
def test_masks_of_black_and_white(tmp_path):
    write(tmp_path, [0, 255])
    message = r"{} .*: 255 means void, save the class as 1"
    name = f"folder:{tmp_path}"
    with pytest.raises(FolderError, match=message.format("those of 'sky' alone, in")):
        segmentation.load(name, mask_folders.SHAPE)
    (tmp_path / "classes.txt").unlink()
    segmentation._folder_names.cache_clear()
    with pytest.raises(FolderError, match=message.format("Received: 1 in")):
        segmentation.load(name, mask_folders.SHAPE)


@pytest.mark.bad_input
@pytest.mark.usefixtures("in_memory")
def test_masks_of_one_class_that_are_not(tmp_path):
    write(tmp_path, [2])
    with pytest.raises(FolderError, match=r"those of 'tree' alone, in .*at .*=12x16$"):
        segmentation.load(f"folder:{tmp_path}", mask_folders.SHAPE)


def test_classes_without_a_pixel_to_learn_from(tmp_path, capsys):
    write(tmp_path, [0, 2, 255], "train")
    write(tmp_path, [0, 1, 2], "test")
    name = f"folder:{tmp_path}"
    segmentation.load(name, mask_folders.SHAPE)
    assert capsys.readouterr().err == (
        "Warning: no pixel of the masks for training is of 'road', in "
        f"--dataset={name} at --image_shape=12x16; 255 means void.\n"
    )
    write(tmp_path, [0, 1, 2], "train")
    segmentation.load(name, mask_folders.SHAPE)
    assert capsys.readouterr().err == ""


def test_of_many_classes_without_a_pixel_some_are_named(tmp_path, capsys):
    write(tmp_path, [0, 1, 100])
    (tmp_path / "classes.txt").unlink()
    segmentation.load(f"folder:{tmp_path}", mask_folders.SHAPE)
    message = "is of '2', '3', '4', '5', '6' and 93 more, in"
    assert message in capsys.readouterr().err


@pytest.mark.bad_input
@pytest.mark.usefixtures("in_memory")
@pytest.mark.parametrize("void", ["train", "test", "val"])
def test_splits_without_a_labelled_pixel(tmp_path, void):
    for split in ("train", "test", "val"):
        write(tmp_path, [255] if split == void else [0, 1], split)
    with pytest.raises(FolderError, match=f"masks for {void} that are void all over, in"):
        segmentation.load(f"folder:{tmp_path}", mask_folders.SHAPE)


@pytest.mark.usefixtures("in_memory")
def test_masks_are_read_no_more_than_they_must(tmp_path, monkeypatch):
    write(tmp_path, [0, 1, 2])
    read, paths = mask_files.read, []
    monkeypatch.setattr(
        mask_files,
        "read",
        lambda path, *args, **kwargs: paths.append(path) or read(path, *args, **kwargs),
    )
    segmentation.load(f"folder:{tmp_path}", mask_folders.SHAPE)
    assert len(paths) == 5
    (tmp_path / "classes.txt").unlink()
    segmentation._folder_names.cache_clear()
    segmentation.load(f"folder:{tmp_path}", mask_folders.SHAPE)
    assert len(paths) == 15  # names, and masks as they are loaded
