# SPDX-License-Identifier: Apache-2.0
"""Batches of images and masks: together, seeded, resumable; whole images at test."""

import numpy as np
import pytest
import tensorflow as tf

from deepncm_tf.data import mask_augmentation, mask_pipeline

N, BATCH = 7, 3


@pytest.fixture(scope="module")
def data():
    """Images whose red value is 20 times their label."""
    rng = np.random.default_rng(0)
    masks = rng.integers(5, size=(N, 4, 4)).repeat(4, axis=1).repeat(6, axis=2)
    images = np.zeros((*masks.shape, 3), "uint8")
    images[..., 0] = 20 * masks
    return images, masks.astype("uint8")


def batches(dataset):
    return [[np.asarray(part) for part in batch] for batch in dataset]


def augmented(data, **draws):
    """Images and masks with these draws, others in the middle, which change nothing."""
    names = ("scale", "row", "column", "mirror", "b", "c", "s", "h")
    values = {**dict.fromkeys(names, 0.5), "mirror": 0.9, **draws}
    draws = np.tile(np.array([values[name] for name in names], "float32"), (N, 1))
    images, masks = mask_augmentation.augment(*data, draws)
    return np.asarray(images), np.asarray(masks)


def test_draws_in_the_middle_change_nothing(data):
    images, masks = augmented(data)
    np.testing.assert_allclose(images, data[0], atol=1e-3)
    np.testing.assert_array_equal(masks, data[1])


def test_images_and_masks_are_mirrored_together(data):
    images, masks = augmented(data, mirror=0.1)
    np.testing.assert_allclose(images, data[0][:, :, ::-1], atol=1e-3)
    np.testing.assert_array_equal(masks, data[1][:, :, ::-1])


def test_a_smaller_image_has_void_around_it(data):
    images, masks = augmented(data, scale=0.0, row=0.0, column=0.0)
    assert masks.shape == data[1].shape
    inner = masks[:, :8, :12]
    np.testing.assert_array_equal(masks[:, 9:], 255)
    np.testing.assert_array_equal(masks[:, :, 13:], 255)
    np.testing.assert_allclose(images[:, 9:], 127, atol=1e-3)
    assert (inner < 5).all()
    assert np.mean(inner == data[1][:, ::2, ::2]) > 0.8  # to the pixel, but for rounding


def test_a_larger_image_is_cropped_where_it_was_drawn(data):
    images, masks = augmented(data, scale=1 - 1e-7, row=1 - 1e-7, column=0.0)
    part = data[1][:, 8:, :12].repeat(2, axis=1).repeat(2, axis=2)
    assert np.mean(masks == part) > 0.8
    # Where a mask is of one label all around, the image has its colour.
    inside = (masks[:, 1:-1, 1:-1] == masks[:, :-2, :-2]) & (
        masks[:, 1:-1, 1:-1] == masks[:, 2:, 2:]
    )
    red = images[:, 1:-1, 1:-1, 0]
    assert np.mean(abs(red - 20 * masks[:, 1:-1, 1:-1])[inside] < 1) > 0.9


def test_an_epoch_has_each_image_once_and_goes_on_anywhere(data):
    arguments = {"seed": 3, "scaling": "pixels"}
    whole = batches(mask_pipeline.training_dataset(*data, BATCH, 2, **arguments))
    assert [len(image) for image, _ in whole] == [3, 3, 1] * 2
    again = batches(
        mask_pipeline.training_dataset(
            *data, BATCH, 2, initial_epoch=1, initial_batch=1, **arguments
        )
    )
    for one, other in zip(whole[4:], again, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    other_seed = batches(mask_pipeline.training_dataset(*data, BATCH, 1, seed=4))
    assert not np.array_equal(other_seed[0][1], whole[0][1])
    assert whole[0][1].dtype == "int32"


def test_evaluation_has_whole_images_in_order(data):
    found = batches(mask_pipeline.evaluation_dataset(*data, BATCH, "pixels"))
    np.testing.assert_array_equal(np.concatenate([image for image, _ in found]), data[0])
    np.testing.assert_array_equal(np.concatenate([mask for _, mask in found]), data[1])


def test_without_scaling_or_mirrors_images_are_whole(data):
    dataset = mask_pipeline.training_dataset(
        *data, BATCH, 1, max_scale=1.0, mirrored=False, scaling="pixels"
    )
    masks = {mask.tobytes() for mask in data[1].astype("int32")}
    assert {mask.numpy().tobytes() for _, part in dataset for mask in part} == masks
    assert isinstance(dataset, tf.data.Dataset)
