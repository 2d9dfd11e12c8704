# SPDX-License-Identifier: Apache-2.0
import keras
import numpy as np
import pytest
from helpers import to_numpy

from deepncm_tf.backbones.scaling import ColourMap, colour_map

IMAGES = np.random.default_rng(0).integers(256, size=(2, 5, 4, 3)).astype("float32")


def test_the_map_of_each_pixel(tmp_path):
    matrix, offset = np.arange(9).reshape(3, 3) / 10, [1.0, -2.0, 3.0]
    image = keras.Input((5, 4, 3))
    model = keras.Model(image, ColourMap(matrix, offset)(image))
    expected = np.einsum("bhwc,cd->bhwd", IMAGES, matrix) + offset
    np.testing.assert_allclose(to_numpy(model(IMAGES)), expected, rtol=1e-5)
    assert model.output_shape == (None, 5, 4, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(loaded(IMAGES)), to_numpy(model(IMAGES)))


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_it_is_read_off_from_a_function(mode):
    def preprocess(images):
        return keras.applications.imagenet_utils.preprocess_input(images.copy(), mode=mode)

    found = to_numpy(colour_map(preprocess)(IMAGES))
    np.testing.assert_allclose(found, preprocess(IMAGES), rtol=1e-5, atol=1e-4)


def test_no_scaling_is_no_layer():
    assert colour_map(lambda images: images) is None


@pytest.mark.bad_input
def test_other_functions_are_refused():
    with pytest.raises(ValueError, match="affine"):
        colour_map(lambda images: images - images.mean(axis=-1, keepdims=True) ** 2)


def test_a_small_mantissa_does_not_hold_the_scaling():
    keras.config.set_dtype_policy("mixed_bfloat16")
    scaling = colour_map(lambda images: images - 103.94)
    assert scaling.compute_dtype == "float32"
    np.testing.assert_allclose(to_numpy(scaling(IMAGES)), IMAGES - 103.94, atol=1e-4)
