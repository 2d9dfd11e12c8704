# SPDX-License-Identifier: Apache-2.0
"""Sums over the samples of each class that are exact: equal to the bit in any order.

Features are rounded to multiples of 2^-g. Their sums, and those of their products, are then
whole multiples of 2^-g and 2^-2g, which float64 holds without rounding up to 2^53 of them:
addition is associative, in any order, split into batches and number of replicas, merged
states are those of all samples, and samples can be taken out again.
"""

import math
import warnings
from typing import Any, NamedTuple

import keras
from keras import ops

from deepncm_tf.distribution import replicas
from deepncm_tf.numerics.precision import sum_dtype
from deepncm_tf.numerics.products import symmetric_product

GRID_BITS = 12  # g: of features below 16, two million samples have exact second moments
MAX_GRID_BITS = 52  # 2^(23 + 2g), the largest number on the grid of products, is a float32
WEIGHT_BITS = 8  # sample weights that are multiples of 2^-8 keep sums exact as well
NO_GRID = 1024.0  # in place of such bits, where a weight is no such multiple
MANTISSA_BITS = {"float64": 53, "float32": 24}


class Sums(NamedTuple):
    """Class statistics, all of them sums over samples, or bounds of what was added up.

    Attributes:
        counts: `(num_classes,)`, n_c = sum of w, of `sum_dtype` like all of these.
        totals: `(num_classes, d)`, S_c = sum of w x.
        moment: `(d, d)`, G = sum of w x x^T over all classes; or None.
        removed: Scalar, weight of the samples in G whose class is there no more.
        extent: `(3,)`, the largest |x|, the largest weight of all samples that any state on
            the way here had, and the bits after the point of the weights.
    """

    counts: Any
    totals: Any
    moment: Any
    removed: Any
    extent: Any


def to_grid(values, grid_bits):
    """The nearest multiples of 2^-grid_bits, of `sum_dtype`; NaN and infinities stay."""
    values = ops.cast(values, sum_dtype())
    # What is larger has no bits after the point, and could overflow.
    whole = 2.0 ** (MANTISSA_BITS[sum_dtype()] - 1)
    scaled = ops.round(ops.where(ops.abs(values) < whole, values, 0.0) * 2.0**grid_bits)
    return ops.where(ops.abs(values) < whole, scaled * 2.0**-grid_bits, values)


def sums_of(features, weights, grid_bits=GRID_BITS, second_moment=False):
    """The statistics of a batch; with replicas, of the global batch.

    Args:
        features: `(n, d)`. A sample with a NaN or an infinity takes no part.
        weights: `(n, num_classes)`, of each sample in each class, >= 0.
        grid_bits: Int >= 0, g.
        second_moment: Bool, whether G is added up too.

    Returns:
        `Sums`, equal on every replica.
    """
    dtype = sum_dtype()
    takes_part = ops.all(ops.isfinite(features), axis=-1, keepdims=True)
    weights = ops.cast(ops.where(takes_part, weights, 0.0), dtype)
    takes_part = ops.any(weights != 0, axis=-1, keepdims=True)
    features = ops.where(takes_part, to_grid(features, grid_bits), 0.0)
    if dtype == "float32":  # squares of larger numbers overflow
        features = ops.clip(features, -(2.0**50), 2.0**50)
    parts = [ops.sum(weights, axis=0), ops.matmul(ops.transpose(weights), features)]
    if second_moment:
        weighted = features * ops.sum(weights, axis=-1, keepdims=True)
        parts.append(symmetric_product(weighted, features))
    largest = ops.max(ops.abs(features), initial=0.0)
    extent = ops.stack([largest, ops.zeros_like(largest), _bits_after_point(weights)])
    counts, totals, *moment = replicas.all_reduce_sum(parts)
    (extents,) = replicas.all_gather([extent[None]])
    extent = ops.max(extents, axis=0)
    extent = ops.maximum(extent, _peak(ops.sum(counts)))
    none = ops.zeros((), dtype)
    return Sums(counts, totals, moment[0] if moment else None, none, extent)


def zeros(num_classes, dimensions, second_moment=False):
    """The statistics of no sample."""
    dtype = sum_dtype()
    return Sums(
        ops.zeros((num_classes,), dtype),
        ops.zeros((num_classes, dimensions), dtype),
        ops.zeros((dimensions, dimensions), dtype) if second_moment else None,
        ops.zeros((), dtype),
        ops.zeros((3,), dtype),
    )


def of_sums(counts, totals, grid_bits=GRID_BITS):
    """First moments of which nothing else is known.

    Sums on the grid may have been rounded on the way only if they were larger before: their
    extent is their own.
    """
    counts, totals = ops.cast(counts, sum_dtype()), ops.cast(totals, sum_dtype())
    is_on_grid = ops.logical_and(
        ops.all(to_grid(totals, grid_bits) == totals), ops.all(ops.floor(counts) == counts)
    )
    largest = ops.maximum(ops.max(ops.abs(totals)), ops.max(counts))
    bits = ops.where(is_on_grid, ops.zeros_like(largest), NO_GRID)
    extent = ops.stack([largest, ops.ones_like(largest), bits])
    return Sums(counts, totals, None, ops.zeros((), sum_dtype()), extent)


def add(one, other):
    """The statistics of the samples of both."""
    moment = None if one.moment is None else one.moment + other.moment
    counts, removed = one.counts + other.counts, one.removed + other.removed
    extent = ops.maximum(one.extent, other.extent)
    extent = ops.maximum(extent, _peak(ops.sum(counts) + removed))
    return Sums(counts, one.totals + other.totals, moment, removed, extent)


def subtract(whole, part):
    """The statistics without some of the samples; bounds of what was added up stay."""
    return Sums(
        whole.counts - part.counts,
        whole.totals - part.totals,
        None if whole.moment is None else whole.moment - part.moment,
        whole.removed - part.removed,
        ops.maximum(whole.extent, part.extent),
    )


def are_possible(sums, grid_bits=GRID_BITS):
    """Whether there can be samples that have these statistics, a bool.

    Weights are >= 0, where there is no weight there is nothing, and with second moments
    G_ii >= sum over c of S_ci^2 / n_c, after Cauchy and Schwarz.
    """
    counts, weights = sums.counts, sums.counts[:, None]
    possible = [counts >= 0, (weights > 0) | (sums.totals == 0)]
    if sums.moment is not None:
        squares = ops.diagonal(sums.moment)
        least = ops.sum(ops.divide_no_nan(ops.square(sums.totals), weights), axis=0)
        rounding = 2.0 ** (10 - bits_available()) * squares + 2.0 ** (-2 * grid_bits)
        is_empty = ops.sum(counts) + sums.removed == 0
        possible += [squares >= least - rounding, ~is_empty | (sums.moment == 0)]
    return all(bool(ops.all(part)) for part in possible)


def exceed(part, whole):
    """Whether samples are longer, or have finer weights, than all that are in statistics.

    False where there are no second moments: such `whole` sums keep no bounds of samples.
    """
    if whole.moment is None:
        return False
    largest, _, bits = (part.extent[i] > whole.extent[i] for i in range(3))
    return bool(largest | bits)


def regroup(sums, groups):
    """The statistics with other classes; samples of classes in no group stay in G.

    Args:
        sums: `Sums`.
        groups: List of tuples of ints: for each new class those that it is made of.
    """
    kept = {label for group in groups for label in group}
    gone = tuple(c for c in range(sums.counts.shape[0]) if c not in kept)
    return sums._replace(
        counts=sum_groups(sums.counts, groups),
        totals=sum_groups(sums.totals, groups),
        removed=sums.removed + sum_groups(sums.counts, [gone])[0],
    )


def sum_groups(values, groups):
    """Sums of some rows of values, a group in each row; a single one stays as it is."""
    rows = ops.convert_to_numpy(values)
    return ops.stack([ops.convert_to_tensor(rows[list(g)].sum(axis=0)) for g in groups])


def bits_needed(sums, grid_bits=GRID_BITS):
    """Bits that the largest of the sums could have needed on the way here, a float.

    At most `bits_available()` of them: everything that was added up is exact.
    """
    largest, peak, weight_bits = (float(x) for x in ops.convert_to_numpy(sums.extent))
    if not largest or not peak:
        return 0.0
    order = 1 if sums.moment is None else 2
    return order * (grid_bits + math.log2(largest)) + math.log2(peak) + weight_bits


def bits_available():
    """Bits of a number in which sums are kept: 53; on JAX 24, unless it is told to use 64
    bits."""
    return MANTISSA_BITS[sum_dtype()]


def is_exact(sums, grid_bits=GRID_BITS):
    """Whether no rounding can have happened, a bool."""
    return bits_needed(sums, grid_bits) <= bits_available()


def warn_where_rounded(sums, grid_bits=GRID_BITS, stacklevel=3):
    """Warns where sums may have been rounded, and says whether it did, a bool.

    Where sums have 24 bits alone, as on JAX by default, they always may: no warning.
    """
    needed = bits_needed(sums, grid_bits)
    if bits_available() < 53 or needed <= 53:
        return False
    warnings.warn(
        "The class statistics may have been rounded: they are right as floats are, but no "
        "longer the same to the bit in any order, and samples cannot be taken out of them. "
        "Let `grid_bits` be smaller, features shorter, or sample weights multiples of "
        f"1/256. Received: sums of up to {needed:.0f} bits, with 53 available",
        stacklevel=stacklevel,
    )
    return True


class ClassStatistics:
    """Class statistics in variables of a layer or model, which saves them.

    Args:
        add_state: Function `(name, shape, dtype=)` that adds a variable.
        num_classes: Int, number of classes C.
        dimensions: Int, d.
        second_moment: Bool, whether there is a `(d, d)` moment.
        prefix: String, in front of the variables' names.
    """

    def __init__(self, add_state, num_classes, dimensions, second_moment=False, prefix=""):
        dtype = sum_dtype()
        square = (dimensions, dimensions)
        self.variables = Sums(
            add_state(f"{prefix}counts", (num_classes,), dtype=dtype),
            add_state(f"{prefix}totals", (num_classes, dimensions), dtype=dtype),
            add_state(f"{prefix}moment", square, dtype=dtype) if second_moment else None,
            add_state(f"{prefix}removed", (), dtype=dtype),
            add_state(f"{prefix}extent", (3,), dtype=dtype),
        )

    def read(self):
        """What is stored, `Sums` of tensors."""
        return Sums(*(None if v is None else ops.copy(v) for v in self.variables))

    def assign(self, sums, apply=None):
        """Stores statistics.

        Args:
            sums: `Sums`.
            apply: Scalar bool tensor, False for nothing to change; or None.
        """
        for variable, value in zip(self.variables, sums, strict=True):
            if variable is not None:
                if apply is not None:
                    value = ops.where(apply, value, ops.copy(variable))
                variable.assign(value)


def _peak(weight):
    """An extent with nothing in it but the weight of all samples."""
    zero = ops.zeros_like(weight)
    return ops.stack([zero, weight, zero])


def _bits_after_point(weights):
    """0 for whole weights, `WEIGHT_BITS` for multiples of its power, else `NO_GRID`."""
    scaled = weights * 2.0**WEIGHT_BITS
    is_whole = ops.all(ops.floor(weights) == weights)
    is_on_grid = ops.all(ops.floor(scaled) == scaled)
    bits = ops.where(is_whole, 0.0, ops.where(is_on_grid, float(WEIGHT_BITS), NO_GRID))
    return ops.cast(bits, keras.backend.standardize_dtype(weights.dtype))
