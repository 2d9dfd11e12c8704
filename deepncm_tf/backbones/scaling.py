# SPDX-License-Identifier: Apache-2.0
"""The scaling of pixels that a network was trained with, as a layer of the network."""

import keras
import numpy as np
from keras import ops

WHITE = 255.0


@keras.saving.register_keras_serializable(package="deepncm_tf")
class ColourMap(keras.layers.Layer):
    """An affine map of each pixel's colours: scaled, shifted, reordered.

    Args:
        matrix: Nested list of floats `(channels, channels)`, from colours to colours.
        offset: List of floats `(channels,)`.
        **kwargs: Those of `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        The same.
    """

    def __init__(self, matrix, offset, **kwargs):
        super().__init__(**kwargs)
        self.matrix = np.asarray(matrix, "float32").tolist()
        self.offset = np.asarray(offset, "float32").tolist()
        self.built = True

    def compute_output_shape(self, input_shape):
        return input_shape

    def call(self, inputs):
        matrix = ops.convert_to_tensor(self.matrix, self.compute_dtype)
        offset = ops.convert_to_tensor(self.offset, self.compute_dtype)
        return ops.matmul(inputs, matrix) + offset

    def get_config(self):
        return {**super().get_config(), "matrix": self.matrix, "offset": self.offset}


def colour_map(preprocess):
    """The `ColourMap` that does what a function does, or None if that is nothing.

    It is read off from black, white and the three pure colours.

    Args:
        preprocess: Function from images `(batch, height, width, 3)` of values 0..255 to
            images, the same affine map of each pixel.

    Raises:
        ValueError: If it is no such map.
    """
    colours = np.concatenate([np.zeros((1, 3)), WHITE * np.eye(3), np.full((1, 3), WHITE)])
    images = np.tile(colours[:, None, None], (1, 8, 8, 1)).astype("float32")
    mapped = ops.convert_to_numpy(preprocess(images))[:, 0, 0]
    offset = mapped[0]
    matrix = (mapped[1:4] - offset) / WHITE
    expected = WHITE * matrix.sum(axis=0) + offset
    if not np.allclose(mapped[4], expected, rtol=1e-3, atol=1e-3):
        raise ValueError("`preprocess` must be an affine map of each pixel's colours")
    if np.array_equal(matrix, np.eye(3)) and not offset.any():
        return None
    # In float32 whatever the policy: 8 bits of a mantissa do not hold what it computes.
    return ColourMap(matrix, offset, dtype="float32", name="scaling")
