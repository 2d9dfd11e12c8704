# SPDX-License-Identifier: Apache-2.0
"""The classes of masks: their names in a file."""

import re

import mask_folders
import pytest

from deepncm_tf.data import segmentation
from deepncm_tf.data.folders import FolderError


@pytest.fixture(autouse=True)
def forget_names():
    yield
    segmentation._folder_names.cache_clear()


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
