# SPDX-License-Identifier: Apache-2.0
"""Class sums of arrays in memory, in little more time than it takes to read them.

Operations of Keras would make several arrays of the features' size, each of them written
and read again. Here a block of rows stays in the processor's cache from step to step.
"""

import concurrent.futures
import os

import numpy as np
from keras import ops

from deepncm_tf.distribution import replicas
from deepncm_tf.numerics.labels import normalize
from deepncm_tf.numerics.precision import sum_dtype
from deepncm_tf.numerics.statistics import GRID_BITS, MANTISSA_BITS, Sums

BLOCK_BYTES = 2**18  # half of what a core's own cache holds, at least
MOMENT_ROWS = 4096  # of which BLAS makes a product at once
BLOCKS = 16  # that a thread adds up before it takes others


def class_sums(
    features, labels, num_classes, dtype, grid_bits=GRID_BITS, second_moment=False
):
    """As `statistics.sums_of` samples of weight 1, equal to the bit where that is exact.

    Args:
        features: `(n, d)`; a sample with a NaN or an infinity takes no part.
        labels: `(n,)` integers; a sample of no class takes no part.
        num_classes: Int, number of classes C.
        dtype: String, that features are cast to: `"float32"` or `"float64"`.
        grid_bits: Int >= 0, g.
        second_moment: Bool, whether G is added up too.

    Returns:
        `Sums`; None where features and labels are no such NumPy arrays, on several
        replicas, and where there is no float64.
    """
    if not _is_possible(features, labels):
        return None
    labels = ops.convert_to_numpy(normalize(labels, num_classes, rank=2))
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(num_classes + 1))
    size = max(1, BLOCK_BYTES // (features.shape[1] * np.dtype(dtype).itemsize))
    parts = [
        (c, order[start : min(start + BLOCKS * size, ends[c + 1])])
        for c in range(num_classes)
        for start in range(ends[c], ends[c + 1], BLOCKS * size)
    ]
    counts = np.zeros(num_classes)
    totals = np.zeros((num_classes, features.shape[1]))
    largest = 0.0

    def add_up(part):
        return _sum_rows(features, part[1], size, dtype, 2.0**grid_bits)

    with concurrent.futures.ThreadPoolExecutor(_num_cores()) as threads:
        for (c, _), found in zip(parts, threads.map(add_up, parts), strict=True):
            count, total, largest_of_part = found
            counts[c] += count
            totals[c] += total
            largest = max(largest, largest_of_part)
    moment = None
    if second_moment:
        rows = order[ends[0] : ends[-1]]
        moment = _moment(features, np.sort(rows), dtype, 2.0**grid_bits)
        moment = ops.convert_to_tensor(moment * 4.0**-grid_bits)
    extent = np.array([largest * 2.0**-grid_bits, counts.sum(), 0.0])
    totals *= 2.0**-grid_bits
    counts, totals, extent = map(ops.convert_to_tensor, (counts, totals, extent))
    return Sums(counts, totals, moment, ops.zeros((), sum_dtype()), extent)


def _is_possible(features, labels):
    are_arrays = isinstance(features, np.ndarray) and isinstance(labels, np.ndarray)
    return (
        are_arrays
        and features.ndim == 2
        and features.dtype in (np.float32, np.float64)
        and features.shape[1] > 0
        and labels.shape == features.shape[:1]
        and labels.dtype.kind in "iu"
        and replicas.num_replicas() == 1
        and sum_dtype() == "float64"
    )


def _sum_rows(features, rows, size, dtype, scale):
    """Number, sum and largest absolute value of rows, in units of the grid."""
    count, total, largest = 0, np.zeros(features.shape[1]), 0.0
    exact = 2.0 ** MANTISSA_BITS[dtype]
    taken = np.empty((min(size, len(rows)), features.shape[1]), features.dtype)
    scaled = taken if taken.dtype == dtype else np.empty(taken.shape, dtype)
    for start in range(0, len(rows), size):
        chosen = rows[start : start + size]
        block = scaled[: len(chosen)]
        np.take(features, chosen, axis=0, out=taken[: len(chosen)], mode="clip")
        with np.errstate(over="ignore", invalid="ignore"):
            np.multiply(
                taken[: len(chosen)].astype(dtype, copy=False),
                block.dtype.type(scale),
                out=block,
            )
            np.rint(block, out=block)
        peak = max(float(block.max()), -float(block.min()))
        if not peak < np.inf:  # NaN, infinities, or what is too large for the scale
            block = _finite_rows(features[chosen], dtype, scale)
            peak = float(np.abs(block).max(initial=0.0))
        # Whole numbers, whose sums are exact in float32 up to 2^24.
        of_block = dtype if peak * len(block) <= exact else "float64"
        count += len(block)
        total += block.sum(axis=0, dtype=of_block)
        largest = max(largest, peak)
    return count, total, largest


def _moment(features, rows, dtype, scale):
    """Sum of x x' over rows, in units of the grid, `(d, d)`."""
    total = np.zeros((features.shape[1],) * 2)
    for start in range(0, len(rows), MOMENT_ROWS):
        chosen = rows[start : start + MOMENT_ROWS]
        first, last = chosen[0], chosen[-1] + 1
        # No copy where no row is left out.
        block = features[first:last] if last - first == len(chosen) else features[chosen]
        block = _finite_rows(block, dtype, scale)
        total += block.T @ block  # BLAS computes half of what is the product with itself
    return total


def _finite_rows(rows, dtype, scale):
    rows = rows.astype(dtype, copy=False)
    scaled = np.multiply(rows, scale, dtype="float64")
    np.rint(scaled, out=scaled)
    if not np.isfinite(scaled.sum()):
        scaled = scaled[np.isfinite(scaled).all(axis=1)]
    return scaled


def _num_cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
