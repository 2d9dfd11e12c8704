# SPDX-License-Identifier: Apache-2.0
"""PNG files: read back, pixel for pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from read_page import pixels

from deepncm_tf.pages import pictures

SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 7), st.sampled_from([1, 3]))


@settings(deadline=None)
@given(arrays.arrays(np.uint8, SHAPES))
def test_png_is_read_back(image):
    file = pictures.png(image)
    np.testing.assert_array_equal(pixels(file), image)
    assert pictures.png(image.copy(order="F")) == file
    if image.shape[-1] == 1:
        assert pictures.png(image[..., 0]) == file


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "image",
    [np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros(3, np.uint8),
     np.zeros((0, 2, 3), np.uint8)],
)  # fmt: skip
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(ValueError, match=r"uint8 array of shape .* Received: \w+ \("):
        pictures.png(image)


def test_contact_sheet():
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 3), np.uint8)
    rows = [[*images[0]], [None, images[1, 1]]]
    sheet = pixels(pictures.contact_sheet(rows, scale=3, gap=1))
    assert sheet.shape == (1 + 2 * 13, 1 + 3 * 16, 3)
    for r in range(2):
        for c in range(3):
            place = sheet[1 + 13 * r :, 1 + 16 * c :][:12, :15]
            if (r, c) in ((1, 0), (1, 2)):
                assert (place == pictures.MISSING).all()
            else:
                for y in range(12):
                    for x in range(15):
                        np.testing.assert_array_equal(
                            place[y, x], images[r, c, y // 3, x // 3]
                        )
    assert (sheet[::13] == 255).all()
    assert (sheet[:, ::16] == 255).all()


def test_contact_sheet_of_an_array():
    images = np.zeros((2, 2, 3, 3, 1), np.uint8)
    assert pixels(pictures.contact_sheet(images)).shape == (18, 18, 1)


@pytest.mark.bad_input
@pytest.mark.parametrize("rows", [[], [[None]], [[np.zeros((2, 2), np.uint8)] * 2 + [
    np.zeros((3, 2), np.uint8)]]])  # fmt: skip
def test_pictures_of_several_shapes_are_refused(rows):
    with pytest.raises(ValueError, match="must hold pictures of one shape"):
        pictures.contact_sheet(rows)
