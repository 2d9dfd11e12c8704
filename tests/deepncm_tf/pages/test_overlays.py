# SPDX-License-Identifier: Apache-2.0
"""Masks as colours over images."""

import numpy as np

from deepncm_tf.pages import overlays


def test_colours_differ_and_stay():
    colours = overlays.palette(20).astype(int)
    distances = np.abs(colours[:, None] - colours[None]).sum(axis=2)
    assert distances[~np.eye(20, dtype=bool)].min() > 20
    np.testing.assert_array_equal(overlays.palette(5), colours[:5])


def test_void_shows_the_image():
    image = np.full((2, 2, 3), 100, "uint8")
    colours = np.array([[0, 0, 0], [200, 0, 50]], "uint8")
    mixed = overlays.overlay(image, np.array([[0, 1], [255, 255]]), colours)
    np.testing.assert_array_equal(mixed[0], [[40, 40, 40], [160, 40, 70]])
    np.testing.assert_array_equal(mixed[1], image[1])


def test_a_row_has_the_image_the_truth_and_the_prediction():
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(3, 4, 5, 3)).astype("uint8")
    masks, predicted = rng.integers(2, size=(2, 3, 4, 5))
    colours = overlays.palette(2)
    rows = overlays.rows(images, masks, predicted, colours)
    assert [len(row) for row in rows] == [3] * 3
    np.testing.assert_array_equal(rows[1][0], images[1])
    expected = overlays.overlay(images[1], predicted[1], colours)
    np.testing.assert_array_equal(rows[1][2], expected)


def test_a_mark_leaves_the_pixel_itself():
    image = np.full((60, 80, 3), 100, "uint8")
    marked = overlays.marked(image, (30, 40))
    np.testing.assert_array_equal(marked[29:32, 39:42], image[29:32, 39:42])
    assert (marked[30, 43] == 255).all()
    assert (marked[31, 43] == 0).all()
    assert (image == 100).all()
    overlays.marked(image, (0, 79))  # at a corner, too


def test_maps_are_enlarged_in_blocks():
    gray = np.array([[0, 255]], "uint8")
    picture = overlays.enlarged(gray, (2, 4))
    assert picture.shape == (2, 4, 3)
    np.testing.assert_array_equal(picture[..., 0], [[0, 0, 255, 255]] * 2)
