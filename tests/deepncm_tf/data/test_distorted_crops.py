# SPDX-License-Identifier: Apache-2.0
"""Crops of any size and proportions, taken of pictures as they are in their files."""

import numpy as np
import picture_folders
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deepncm_tf.data import augmentation, datasets, distorted_crops, image_files, pipeline
from deepncm_tf.data.image_sources import ImageFiles, ResizedImages

SIZES = st.integers(1, 400)


@given(SIZES, SIZES, st.integers(0, 2**31 - 2))
def test_a_crop_is_a_part_of_the_picture(width, height, key):
    box = distorted_crops.draw_box(width, height, key)
    left, top, right, bottom = box
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert box == distorted_crops.draw_box(width, height, key)
    if box != (0, 0, width, height):
        share = (right - left) * (bottom - top) / (width * height)
        assert 0.1 <= share <= 1


def test_crops_are_spread_as_those_of_tensorflow():
    """Sizes, proportions and places of 4,000 crops, beside as many of the official code."""
    height, width = 300, 400
    ours = np.array([distorted_crops.draw_box(width, height, key) for key in range(4000)])
    boxes = np.array([[[0, 0, 1, 1]]], "float32")

    @tf.function
    def draw(number):
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            (height, width, 3),
            boxes,
            seed=tf.stack([number, 0]),
            min_object_covered=0.1,
            aspect_ratio_range=(0.75, 1.33),
            area_range=(0.05, 1.0),
            max_attempts=100,
        )
        top, left = begin[0], begin[1]
        return tf.stack([left, top, left + size[1], top + size[0]])

    theirs = tf.map_fn(draw, tf.range(4000), fn_output_signature=tf.int32).numpy()

    def figures(boxes):
        left, top, right, bottom = boxes.T.astype("float64")
        columns, rows = right - left, bottom - top
        share = columns * rows / (width * height)
        return np.stack([share, columns / rows, left / width, top / height])

    one, other = figures(ours), figures(theirs)
    error = np.sqrt(2 / 4000) * other.std(axis=1)
    assert (abs(one.mean(axis=1) - other.mean(axis=1)) < 5 * error).all()
    np.testing.assert_allclose(one.std(axis=1), other.std(axis=1), rtol=0.1)


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for i, path in enumerate(paths):
        image = picture_folders.picture(i, i, shape=(24 + i, 40 - i))
        Image.fromarray(image).save(path)
    return ImageFiles(paths, 16, middle=0.5)


def test_pixels_against_pillow(files):
    keys = np.array([3, 1, 4])
    found = files.crops(np.array([4, 0, 2]), keys)
    for image, row, key in zip(found, (4, 0, 2), keys, strict=True):
        with Image.open(files.paths[row]) as picture:
            box = distorted_crops.draw_box(*picture.size, int(key))
            part = picture.convert("RGB").crop(box).resize((16, 16), Image.BILINEAR)
        # At the edges of the part Pillow's filter sees beyond it.
        np.testing.assert_array_equal(image[2:-2, 2:-2], np.asarray(part)[2:-2, 2:-2])


@pytest.mark.parametrize("make", ["files", "array"])
def test_the_middle_of_the_middle_square(files, make):
    """Half of the side: 12 of 24 x 40 pixels."""
    if make == "files":
        source = files
        with Image.open(files.paths[0]) as picture:
            image = np.asarray(picture)
    else:
        image = picture_folders.picture(0, 0, shape=(24, 24))
        source = ResizedImages(image[None], 16, middle=0.5)
    height, width = image.shape[:2]
    top, left = (height - 12) // 2, (width - 12) // 2
    part = Image.fromarray(image[top : top + 12, left : left + 12])
    # Pillow's filter sees beyond the part at its edges, where it is a part.
    found = source[0][3:-3, 3:-3].astype(int)
    np.testing.assert_allclose(
        found, np.asarray(part.resize((16, 16), Image.BILINEAR))[3:-3, 3:-3], atol=12
    )
    np.testing.assert_array_equal(source.take([0])[0], source[0])


@pytest.mark.parametrize("kind", ["files", "array"])
def test_batches_are_crops_of_their_keys(files, kind):
    images = files if kind == "files" else files[np.arange(5)]
    labels = np.arange(5, dtype="int32")
    dataset = pipeline.training_dataset(
        images, labels, 2, epochs=2, seed=7, augmentation="imagenet", scaling="pixels"
    )
    found = [(x["image"].numpy(), x["index"].numpy()) for x, _ in dataset]
    again = pipeline.training_dataset(
        images, labels, 2, 2, 7, 1, 1, augmentation="imagenet", scaling="pixels"
    )
    for (image, index), (x, _) in zip(found[4:], again, strict=True):
        np.testing.assert_array_equal(image, x["image"])
        np.testing.assert_array_equal(index, x["index"])
    source = files if kind == "files" else ResizedImages(images, 16)
    for epoch in range(2):
        keys, flips = (t.numpy() for t in augmentation.draw_keys(5, 7, epoch, True))
        rows = pipeline.epoch_order(5, 7, epoch).numpy()
        expected = source.crops(rows, keys)
        expected = np.where(flips[:, None, None, None], expected[:, :, ::-1], expected)
        batches = found[3 * epoch : 3 * epoch + 3]
        np.testing.assert_array_equal(np.concatenate([i for _, i in batches]), rows)
        np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), expected)


def test_arrays_keep_what_they_were(tmp_path):
    """--middle=1, the default, changes nothing; a smaller one makes images anew."""
    whole, part = (datasets.load("digits", middle=middle) for middle in (1.0, 0.75))
    assert isinstance(whole["train"][0], np.ndarray)
    image = Image.fromarray(whole["train"][0][0])
    expected = image_files.resize(image, (32, 32), 0.75)
    np.testing.assert_array_equal(part["train"][0][0], expected)


@pytest.mark.bad_input
def test_a_picture_that_cannot_be_read(files):
    files.paths[1].write_bytes(b"no picture")
    with pytest.raises(ValueError, match=str(files.paths[1])):
        files.crops([0, 1], [1, 2])
    assert str(files.paths[1]) in str(files.failure)
