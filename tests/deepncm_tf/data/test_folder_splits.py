# SPDX-License-Identifier: Apache-2.0
"""Folders that are splits, folders that are classes, and what is neither."""

import mask_folders
import picture_folders
import pytest

from deepncm_tf.data import folders, segmentation
from deepncm_tf.data.folders import FolderError


def write_splits(root, *names):
    for name in names:
        picture_folders.write(root / name, {"a": 2, "b": 1})


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("names", "received"),
    [
        (["train", "val"], "train/ and val/"),
        (["Train", "Test"], "Test/ and Train/"),
        (["training", "testing"], "testing/ and training/"),
        (["TRAIN", "test", "Valid"], "TRAIN/ and Valid/ and test/"),
        (["train"], "train/"),
        (["val", "valid"], "val/ and valid/"),
    ],
)
def test_splits_of_other_names_are_refused(tmp_path, names, received):
    write_splits(tmp_path, *names)
    for function in (folders.class_names, folders.scan):
        with pytest.raises(FolderError) as error:
            function(tmp_path)
        assert str(error.value) == (
            "Pictures for training and those that are held out must be in train/ and "
            f"test/, spelt so. Received: {received} in {tmp_path}"
        )


@pytest.mark.bad_input
def test_splits_without_classes_are_refused(tmp_path):
    picture_folders.write(tmp_path, {"Train": 2, "validation": 2, "c": 2})
    with pytest.raises(FolderError, match="Received: Train/ and validation/ in"):
        folders.scan(tmp_path)


@pytest.mark.parametrize("name", ["test", "Train", "validation"])
def test_a_class_may_be_called_as_a_split(tmp_path, name):
    picture_folders.write(tmp_path, {"a": 2, name: 2})
    picture_folders.write_class(tmp_path / name / "deeper", 2, 1)
    (listing,) = folders.scan(tmp_path).values()
    assert len(listing) == 5
    assert folders.class_names(tmp_path) == sorted(["a", name])


@pytest.mark.parametrize("name", ["valid", "Train"])
def test_a_class_that_looks_like_a_split_is_named(tmp_path, capsys, name):
    write_splits(tmp_path, name, "other")
    (listing,) = folders.read_listings(tmp_path, 8).values()
    assert len(listing) == 6
    warning = (
        f"Warning: {tmp_path / name} is taken for a class; splits are train/ and test/.\n"
    )
    assert capsys.readouterr().err == warning


@pytest.mark.parametrize("name", ["val", "Validation"])
def test_what_is_left_out_beside_train_and_test_is_named(tmp_path, capsys, name):
    write_splits(tmp_path, "train", "test", name, "other")
    assert list(folders.read_listings(tmp_path, 8)) == ["train", "test"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"Warning: {tmp_path / name} is left out")


@pytest.mark.parametrize(
    ("splits", "left_out", "used"),
    [
        (["train", "test", "val"], ["valid", "Training"], "train/, test/ and val/"),
        (["train", "test", "validation"], ["val"], "train/, test/ and validation/"),
        (["train", "test"], ["TESTING"], "train/ and test/"),
        (["."], ["test", "Val"], "images/ and masks/"),
    ],
)
def test_what_is_left_out_of_images_and_masks_is_named(
    tmp_path, capsys, splits, left_out, used
):
    for name in [*splits, *left_out]:
        mask_folders.write(tmp_path / name)
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    segmentation.load(f"folder:{tmp_path}", mask_folders.SHAPE)
    assert capsys.readouterr().err.splitlines() == [
        f"Warning: {tmp_path / name} is left out; only {used} are used."
        for name in sorted(left_out)
    ]
