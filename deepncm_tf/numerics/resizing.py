# SPDX-License-Identifier: Apache-2.0
"""Maps `(batch, height, width, channels)` in another size, as products with two matrices.

In any dtype, differentiable, and the same on every backend.
"""

from keras import ops


def resize(maps, size):
    """Bilinear interpolation between the centres of pixels, without antialiasing.

    Args:
        maps: `(batch, height, width, channels)` floats.
        size: `(new_height, new_width)`.

    Returns:
        `(batch, new_height, new_width, channels)` of the same dtype.
    """
    if tuple(maps.shape[1:3]) == tuple(size):
        return maps
    matrices = [
        _interpolation(old, new) for old, new in zip(maps.shape[1:3], size, strict=True)
    ]
    return _combine(maps, *matrices)


def pool(maps, size):
    """Averages of parts of equal size that cover the maps, as `resize`.

    The part of place i of n in a length of m is from floor(i m / n) to ceil((i + 1) m / n),
    as in `AdaptiveAveragePooling2D`.
    """
    matrices = [_averages(old, new) for old, new in zip(maps.shape[1:3], size, strict=True)]
    return _combine(maps, *matrices)


def at_size(labels, size):
    """What is at the centres of larger pixels, which maps of a smaller size have.

    Args:
        labels: `(batch, height, width, ...)`, of any dtype; what is the same for a row or
            for all of an image may have fewer axes.
        size: `(new_height, new_width)`.

    Returns:
        `(batch, new_height, new_width, ...)` of the same dtype, with as many axes.
    """
    for axis, new in enumerate(size[: len(labels.shape) - 1], start=1):
        old = labels.shape[axis]
        if old != new:
            rows = [(2 * i + 1) * old // (2 * new) for i in range(new)]
            labels = ops.take(labels, ops.convert_to_tensor(rows, "int32"), axis=axis)
    return labels


def _combine(maps, rows, columns):
    _, height, width, channels = maps.shape
    rows, columns = (ops.convert_to_tensor(m, maps.dtype) for m in (rows, columns))
    maps = ops.matmul(rows, ops.reshape(maps, (-1, height, width * channels)))
    maps = ops.matmul(columns, ops.reshape(maps, (-1, width, channels)))
    return ops.reshape(maps, (-1, rows.shape[0], columns.shape[0], channels))


def _interpolation(old, new):
    """`(new, old)` nested list: weights of the old pixels in each new one."""
    matrix = [[0.0] * old for _ in range(new)]
    for i, row in enumerate(matrix):
        centre = min(max((i + 0.5) * old / new - 0.5, 0.0), old - 1.0)
        low = int(centre)
        row[low] += 1.0 - (centre - low)
        row[min(low + 1, old - 1)] += centre - low
    return matrix


def _averages(old, new):
    matrix = [[0.0] * old for _ in range(new)]
    for i, row in enumerate(matrix):
        low, high = i * old // new, -(-(i + 1) * old // new)
        row[low:high] = [1.0 / (high - low)] * (high - low)
    return matrix
