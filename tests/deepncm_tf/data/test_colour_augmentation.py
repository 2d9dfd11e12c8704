# SPDX-License-Identifier: Apache-2.0
"""SNCA's augmentation, one image and one pixel at a time."""

import colorsys

import numpy as np
import pytest
import tensorflow as tf

from deepncm_tf.data import colour_augmentation, pipeline

NEUTRAL = np.full(colour_augmentation.DRAWS, 0.5, "float32")
WHOLE = {0: 1 - 1e-7, 1: 0.5}  # all of the area, width equal to height


def draws(count=1):
    return np.tile(NEUTRAL, (count, 1))


def changed(values, count=1):
    drawn = draws(count)
    for place, value in {**WHOLE, **values}.items():
        drawn[:, place] = value
    return drawn


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(256, size=(3, 6, 6, 3)).astype("uint8")


def test_nothing_drawn_changes_nothing(images):
    found = colour_augmentation.augment(images, changed({}, 3))
    np.testing.assert_allclose(found, images, atol=0.5)


def test_mirrored_and_gray(images):
    mirrored = colour_augmentation.augment(images, changed({9: 0.4}, 3))
    np.testing.assert_allclose(mirrored, images[:, :, ::-1], atol=0.5)
    (kept,) = colour_augmentation.draw(300, 0, 0, flip=False)
    (mirrored,) = colour_augmentation.draw(300, 0, 0, flip=True)
    np.testing.assert_array_equal(kept[:, :9], mirrored[:, :9])
    assert (kept[:, 9] >= 0.5).numpy().all()
    assert 0.4 < np.mean(mirrored[:, 9] < 0.5) < 0.6
    gray = colour_augmentation.augment(images, changed({8: 0.19}, 3)).numpy()
    luma = images @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(gray, np.repeat(luma[..., None], 3, axis=-1), atol=0.5)


def loop_jitter(image, brightness, contrast, saturation, hue):
    """One image in plain Python, with the factors that follow from the draws."""
    weights = np.array([0.299, 0.587, 0.114])
    factor = [0.6 + 0.8 * draw for draw in (brightness, contrast, saturation)]
    image = np.clip(image * factor[0], 0, 255)
    mean = (image @ weights).mean()
    image = np.clip(mean + (image - mean) * factor[1], 0, 255)
    gray = (image @ weights)[..., None]
    image = np.clip(gray + (image - gray) * factor[2], 0, 255)
    found = np.zeros_like(image)
    for row, column in np.ndindex(*image.shape[:2]):
        h, s, v = colorsys.rgb_to_hsv(*(image[row, column] / 255))
        h = (h + 0.4 * (2 * hue - 1)) % 1
        found[row, column] = 255 * np.array(colorsys.hsv_to_rgb(h, s, v))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_colours(images, seed):
    drawn = changed({}, 3)
    drawn[:, 4:8] = np.random.default_rng(seed).random((3, 4))
    found = colour_augmentation.augment(images, drawn).numpy()
    for image, expected, values in zip(images, found, drawn, strict=True):
        np.testing.assert_allclose(
            loop_jitter(image.astype("float64"), *values[4:8]), expected, atol=1.0
        )


def test_crops_have_the_drawn_place_and_size():
    """Of an image whose values are its coordinates."""
    rows, columns = np.meshgrid(np.linspace(0, 1, 9), np.linspace(0, 1, 9), indexing="ij")
    image = np.stack([rows, columns, 0 * rows], axis=-1)[None].astype("float32")
    area, ratio, row, column = 0.3, 0.8, 0.25, 0.9
    found = colour_augmentation.crop(
        image, *(tf.constant([v]) for v in (area, ratio, row, column))
    )
    part = 0.2 + 0.8 * area
    stretch = np.exp(np.log(3 / 4) + (np.log(4 / 3) - np.log(3 / 4)) * ratio)
    height, width = np.sqrt(part / stretch), np.sqrt(part * stretch)
    top, left = row * (1 - height), column * (1 - width)
    np.testing.assert_allclose(
        found[0, :, 0, 0], np.linspace(top, top + height, 9), atol=1e-5
    )
    np.testing.assert_allclose(
        found[0, 0, :, 1], np.linspace(left, left + width, 9), atol=1e-5
    )
    assert height * width == pytest.approx(part)


def test_an_epoch_is_a_function_of_seed_and_epoch(images):
    labels = np.arange(3, dtype="int32")

    def epoch(seed, number):
        dataset = pipeline.training_dataset(
            images, labels, 2, number + 1, seed, number, augmentation="snca"
        )
        return [x["image"].numpy() for x, _ in dataset]

    for one, other in zip(epoch(1, 0), epoch(1, 0), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(epoch(1, 0)[0], epoch(1, 1)[0])
    assert not np.array_equal(epoch(1, 0)[0], epoch(2, 0)[0])
    drawn = colour_augmentation.draw(1000, 0, 0, True)[0].numpy()
    assert drawn.shape == (1000, colour_augmentation.DRAWS)
    assert 0 <= drawn.min() < 0.01 < 0.99 < drawn.max() < 1
