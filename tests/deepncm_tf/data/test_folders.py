# SPDX-License-Identifier: Apache-2.0
"""Folders of pictures: what is found, how it is split, and what is refused."""

import os
import subprocess
import sys

import numpy as np
import picture_folders
import pytest

from deepncm_tf.data import folders
from deepncm_tf.data.folders import FolderError

COUNTS = {"a cat": 7, "dog": 3, "<b>&eagle<b>": 5}
NAMES = ["<b>&eagle<b>", "a cat", "dog"]


@pytest.fixture
def root(tmp_path):
    return picture_folders.write(tmp_path / "pictures", COUNTS)


def test_classes_in_the_order_of_their_names(root):
    assert folders.class_names(root) == NAMES
    (listing,) = folders.scan(str(root)).values()
    assert np.bincount(listing.labels).tolist() == [5, 7, 3]
    assert listing.labels.dtype == "int32"
    for path, label in zip(listing.paths, listing.labels, strict=True):
        assert path.parent.name == NAMES[label]
    assert listing.paths == sorted(listing.paths)


def test_what_is_passed_over_and_what_lies_deeper(root):
    before = folders.scan(root)["train"].paths
    (root / "notes.txt").touch()
    (root / ".cache").mkdir()
    (root / "dog" / "Thumbs.db").touch()
    (root / "dog" / "._000.png").touch()
    assert folders.scan(root)["train"].paths == before
    picture_folders.write_class(root / "dog" / "puppies" / "small", 1, 2, (".PNG",))
    found = folders.scan(root)["train"].paths
    assert set(found) - set(before) == {
        root / "dog" / "puppies" / "small" / name for name in ("000.PNG", "001.PNG")
    }


def test_linked_folders_and_pictures_are_followed(root, tmp_path):
    picture_folders.write_class(tmp_path / "elsewhere", 3, 2)
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "dog" / "link.png").symlink_to(root / "a cat" / "000.png")
    listing = folders.scan(root)["train"]
    assert folders.class_names(root) == [*NAMES, "linked"]
    assert np.bincount(listing.labels).tolist() == [5, 7, 4, 2]


def test_train_and_test(tmp_path):
    picture_folders.write(tmp_path / "train", {"a": 4, "b": 3})
    picture_folders.write(tmp_path / "test", {"a": 2, "b": 1})
    listings = folders.scan(tmp_path)
    assert {name: listing.labels.tolist() for name, listing in listings.items()} == {
        "train": [0] * 4 + [1] * 3,
        "test": [0] * 2 + [1],
    }


def test_the_split_takes_a_share_of_each_class(root):
    listing = folders.scan(root)["train"]
    train, test = folders.split(listing, 0.4)
    assert np.bincount(test.labels).tolist() == [2, 3, 1]
    assert sorted([*train.paths, *test.paths]) == listing.paths
    for part in (train, test):
        assert part.paths == sorted(part.paths)
        assert [NAMES[label] for label in part.labels] == [
            p.parent.name for p in part.paths
        ]


def test_the_split_is_a_function_of_the_seed(root):
    listing = folders.scan(root)["train"]
    assert folders.split(listing, 0.4)[1].paths == folders.split(listing, 0.4)[1].paths
    others = [folders.split(listing, 0.4, seed)[1].paths for seed in range(5)]
    assert len({tuple(paths) for paths in others}) > 1
    # Another class does not change those of a class.
    picture_folders.write_class(root / "zebra", 3, 6)
    more = folders.split(folders.scan(root)["train"], 0.4)[1].paths
    assert more[: len(others[0])] == others[0]


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_something_stays_on_both_sides(root, fraction):
    for part in folders.split(folders.scan(root)["train"], fraction):
        assert (np.bincount(part.labels, minlength=3) > 0).all()


def test_classes_of_one_picture_stay_whole(tmp_path):
    picture_folders.write(tmp_path / "p", {"one": 1, "two": 2})
    train, test = folders.split(folders.scan(tmp_path / "p")["train"], 0.2)
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1], [1])


@pytest.mark.bad_input
def test_thousands_of_classes_of_one_picture(tmp_path):
    for number in range(2000):
        folder = tmp_path / f"{number:04}"
        folder.mkdir()
        (folder / "only.png").touch()
    listing = folders.scan(tmp_path)["train"]
    assert listing.labels.tolist() == list(range(2000))
    with pytest.raises(
        FolderError, match=r"Received: 2000 classes of one picture, such as"
    ):
        folders.split(listing, 0.2)


def one_class(root):
    picture_folders.write_class(root / "dog", 0, 2)


def no_classes(root):
    picture_folders.write_class(root, 0, 2)


def empty_class(root):
    picture_folders.write(root, {"dog": 2, "cat": 0})


def class_of_other_files(root):
    picture_folders.write(root, {"dog": 2, "cat": 0})
    (root / "cat" / "a.tiff").touch()


def loop(root):
    picture_folders.write(root, {"dog": 2, "cat": 2})
    (root / "dog" / "again").symlink_to(root / "dog")


def loop_to_the_root(root):
    picture_folders.write(root, {"dog": 2, "cat": 2})
    (root / "dog" / "up").symlink_to(root)


def class_that_is_the_root(root):
    picture_folders.write(root, {"dog": 2, "cat": 2})
    (root / "zoo").symlink_to(root)


def diamond(root):
    picture_folders.write(root, {"dog": 2, "cat": 2})
    (root / "dog" / "deep").mkdir()
    for name in ("x", "y"):
        (root / "dog" / name).symlink_to(root / "dog" / "deep")


def unknown_class_in_test(root):
    picture_folders.write(root / "train", {"a": 2, "b": 2})
    picture_folders.write(root / "test", {"a": 2, "c": 2})


def no_text(root):
    picture_folders.write(root, {"dog": 2, "cat": 2})
    os.mkdir(os.fsencode(root) + b"/\xff")


def line_break(root):
    picture_folders.write(root, {"dog": 2, "a\nb": 2})


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, r"must be in a folder.*Received: .*pictures"),
        (lambda root: root.touch(), r"must be in a folder.*Received: .*pictures"),
        (lambda root: root.mkdir(), "two classes or more. Received: none in"),
        (no_classes, "two classes or more. Received: none in"),
        (one_class, r"two classes or more. Received: 1 \(dog\) in"),
        (empty_class, r"must have a picture \(.*Received: .*cat, which has none"),
        (class_of_other_files, r"Received: .*cat, which has none"),
        (loop, "lead back .*Received: .*again, which is met twice"),
        (loop_to_the_root, "Received: .*up, which is met twice"),
        (class_that_is_the_root, "Received: .*zoo, which is met twice"),
        (diamond, "Received: .*[xy], which is met twice"),
        (unknown_class_in_test, "classes of its train/. Received: .*c"),
        (no_text, r"printable text. Received: '\\udcff', in"),
        (line_break, r"printable text. Received: 'a\\nb', in"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_folders_that_are_refused(tmp_path, make, message):
    make(tmp_path / "pictures")
    with pytest.raises(FolderError, match=message):
        folders.scan(tmp_path / "pictures")


@pytest.mark.bad_input
def test_unreadable_pictures_are_refused_by_name_or_skipped(root, capsys):
    listing = folders.scan(root)["train"]
    reasons = {path: f"damaged: {path}" for path in listing.paths[2:9]}
    with pytest.raises(FolderError) as error:
        folders.without(listing, reasons, "fail", NAMES)
    assert str(error.value).startswith("7 of 15 pictures cannot be read: damaged: ")
    for path in listing.paths[2:7]:
        assert str(path) in str(error.value)
    assert str(listing.paths[7]) not in str(error.value)
    assert str(error.value).endswith(".... Mend them or remove them")
    with pytest.raises(FolderError, match=r"Mend them, or leave$"):
        folders.without(listing, reasons, "fail", NAMES, ", or leave")
    assert not capsys.readouterr().err
    left = folders.without(listing, reasons, "skip", NAMES)
    warnings = capsys.readouterr().err.splitlines()
    assert warnings == [f"Warning: a picture is left out. {r}" for r in reasons.values()]
    assert left.paths == listing.paths[:2] + listing.paths[9:]
    assert np.bincount(left.labels).tolist() == [2, 3, 3]
    assert folders.without(listing, {}, "fail", NAMES) is listing


@pytest.mark.bad_input
def test_nothing_left_of_a_class(root):
    listing = folders.scan(root)["train"]
    reasons = dict.fromkeys(listing.paths[-3:], "damaged")
    with pytest.raises(FolderError, match=r"that can be read\. Received: 'dog'"):
        folders.without(listing, reasons, "skip", NAMES)


def test_it_does_without_tensorflow():
    code = (
        "import sys, deepncm_tf.data.folders, deepncm_tf.data.image_sources\n"
        "sys.exit(bool({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def colours(images):
    return images.mean(axis=(1, 2)).argmax(axis=-1)


def test_pictures_and_labels_belong_together(root):
    splits = folders.load(root, 8)
    # Written as red, green and blue: in the order of their names a cat, dog, eagle.
    written = np.array([2, 0, 1])
    for images, labels in splits.values():
        assert images.shape == (len(labels), 8, 8, 3)
        np.testing.assert_array_equal(colours(images[:]), written[labels])
    assert [len(labels) for _, labels in splits.values()] == [12, 3]
    again = folders.load(root, 8)
    assert again["train"][0].paths == splits["train"][0].paths


def test_a_folder_with_its_own_split(tmp_path):
    picture_folders.write(tmp_path / "train", {"a": 4, "b": 3})
    picture_folders.write(tmp_path / "test", {"a": 2, "b": 1})
    splits = folders.load(tmp_path, 8)
    for name, (images, _) in splits.items():
        assert {path.parts[-3] for path in images.paths} == {name}


@pytest.mark.bad_input
def test_a_damaged_picture_is_refused_or_skipped(root):
    (root / "dog" / "001.jpg").write_bytes(b"no picture")
    with pytest.raises(FolderError, match=r"^1 of 15 pictures cannot be read: .*001\.jpg"):
        folders.load(root, 8)
    splits = folders.load(root, 8, "skip")
    paths = [path for images, _ in splits.values() for path in images.paths]
    assert len(paths) == 14
    assert root / "dog" / "001.jpg" not in paths
    with pytest.raises(ValueError, match=r"`on_bad_image` must be one of .*'ignore'"):
        folders.load(root, 8, "ignore")
