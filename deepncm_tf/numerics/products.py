# SPDX-License-Identifier: Apache-2.0
"""Matrix products of which half need not be computed."""

from keras import ops

WIDTH = 256  # columns of a block: narrower products would be slower than they save


def symmetric_product(left, right):
    """`transpose(left) @ right` where that is symmetric: about half of the multiplications.

    Args:
        left: `(n, d)`, such as weighted rows of `right`.
        right: `(n, d)`.

    Returns:
        `(d, d)`, symmetric to the bit.
    """
    dimensions = right.shape[-1]
    if dimensions < 2 * WIDTH:
        return ops.matmul(ops.transpose(left), right)
    strips = []
    for start in range(0, dimensions, WIDTH):
        strip = ops.matmul(ops.transpose(left[:, start : start + WIDTH]), right[:, start:])
        strips.append(ops.pad(strip, ((0, 0), (start, 0))))
    upper = ops.concatenate(strips)  # and in the blocks on the diagonal both halves
    places = ops.arange(dimensions)
    is_upper = places[:, None] <= places[None]
    return ops.where(is_upper, upper, ops.transpose(upper))
