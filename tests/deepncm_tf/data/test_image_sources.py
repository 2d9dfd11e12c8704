# SPDX-License-Identifier: Apache-2.0
"""Images that are made when asked for are indexed as an array is."""

import os

import numpy as np
import picture_folders
import pytest
from PIL import Image

from deepncm_tf.data import folders, image_files
from deepncm_tf.data.image_sources import ImageFiles, ResizedImages, find_bad


@pytest.fixture
def paths(tmp_path):
    root = picture_folders.write(tmp_path / "pictures", {"a": 6, "b": 5})
    return folders.scan(root)["train"].paths


@pytest.mark.parametrize(
    "rows",
    [
        3,
        -1,
        np.int32(2),
        slice(None),
        slice(2, 9, 3),
        slice(5, 5),
        [4, 4, 0],
        np.array([10, 0, 7], "int32"),
        np.arange(11) % 2 == 0,
    ],
)
def test_they_are_indexed_as_an_array(paths, rows):
    source = ImageFiles(paths, 8)
    whole = np.stack([image_files.read(path, (8, 8), middle=True) for path in paths])
    assert (source.shape, source.dtype, len(source)) == (whole.shape, whole.dtype, 11)
    np.testing.assert_array_equal(source[rows], whole[rows])
    assert source[rows].dtype == "uint8"


def test_rows_that_are_not_there(paths):
    with pytest.raises(IndexError, match="out of bounds"):
        ImageFiles(paths, 8)[[3, 11]]


@pytest.mark.parametrize("shape", [(40, 20), (20, 40), (21, 20)])
def test_the_middle_square(tmp_path, shape):
    """A picture whose ends, beyond the middle square, are white."""
    image = np.full((*shape, 3), 255, "uint8")
    side = min(shape)
    top, left = ((length - side) // 2 for length in shape)
    gray = np.random.default_rng(0).integers(100, size=(side, side, 3)).astype("uint8")
    image[top : top + side, left : left + side] = gray
    Image.fromarray(image).save(tmp_path / "image.png")
    (found,) = ImageFiles([tmp_path / "image.png"], side)[:]
    if shape != (21, 20):  # which has no middle of whole pixels
        np.testing.assert_array_equal(found, gray)
    assert found.shape == (side, side, 3)


def test_images_of_another_size():
    images = np.random.default_rng(0).integers(256, size=(3, 32, 32, 3)).astype("uint8")
    source = ResizedImages(images, 64)
    assert source.shape == (3, 64, 64, 3)
    expected = [
        Image.fromarray(i).resize((64, 64), Image.Resampling.BILINEAR) for i in images
    ]
    np.testing.assert_array_equal(source[:], np.stack(expected))
    np.testing.assert_array_equal(ResizedImages(images, 32)[[2, 0]], images[[2, 0]])


def test_some_of_them(paths):
    rows = np.array([7, 0, 7])
    for source in (ImageFiles(paths, 8), ResizedImages(ImageFiles(paths, 8)[:], 16)):
        np.testing.assert_array_equal(source.take(rows)[:], source[rows])


@pytest.mark.bad_input
def test_pictures_that_cannot_be_read_are_named(paths):
    bad = {paths[0]: b"", paths[4]: paths[4].read_bytes()[:40], paths[7]: b"text"}
    for path, data in bad.items():
        path.write_bytes(data)
    paths[9].unlink()
    paths[9].symlink_to("nowhere.png")
    paths[10].unlink()
    os.mkfifo(paths[10])  # which reading would wait for
    reasons = find_bad(paths, 8)
    assert list(reasons) == [paths[row] for row in (0, 4, 7, 9, 10)]
    for path, reason in reasons.items():
        assert reason.startswith("Image files must be whole")
        assert reason.endswith(f"Received: {path}")


@pytest.mark.bad_input
def test_a_picture_that_is_gone(paths):
    source = ImageFiles(paths, 8)
    paths[3].unlink()
    assert source.failure is None
    with pytest.raises(ValueError, match=f"Received: {paths[3]}"):
        source[2:5]
    assert str(paths[3]) in str(source.failure)


@pytest.mark.bad_input
def test_a_decompression_bomb(paths, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 119)  # of 12 x 10
    monkeypatch.setattr("warnings.warn", lambda *args, **kwargs: None)
    reasons = find_bad(paths[:1], 8)
    assert "120 pixels exceeds limit of 119" in reasons[paths[0]]
