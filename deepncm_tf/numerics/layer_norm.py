# SPDX-License-Identifier: Apache-2.0
"""Layer normalization by a layer's own scale and offset."""

from keras import ops

EPSILON = 1e-5
LARGE = 1e12


def add_norm(layer, name, size):
    """Adds a normalization's trainable scale and offset to a layer, `(size,)` each."""
    return [
        layer.add_weight(
            name=f"{name}_{part}",
            shape=(size,),
            dtype=layer.state_dtype,
            initializer=initializer,
            autocast=False,
        )
        for part, initializer in (("scale", "ones"), ("offset", "zeros"))
    ]


def layer_norm(values, scale, offset):
    """Normalizes over the last axis; unlike Keras's, also of no and of large samples."""
    # Scaled down where squares might overflow; epsilon is nothing beside those.
    is_large = ops.max(ops.abs(values), axis=-1, keepdims=True, initial=0.0) > LARGE
    values = ops.where(is_large, values * 2.0**-80, values)
    epsilons = (ops.cast(value, values.dtype) for value in (1e-30, EPSILON))
    epsilon = ops.where(is_large, *epsilons)
    mean = ops.mean(values, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(values - mean), axis=-1, keepdims=True)
    return (values - mean) * ops.rsqrt(variance + epsilon) * scale + offset
