# SPDX-License-Identifier: Apache-2.0
"""Sums over a large bank of features, a chunk of rows at a time, forward and backward."""

import functools
import math

import keras
from keras import ops

from deepncm_tf.distribution import replicas

CHUNK = 4096  # rows of a large bank that are computed together
WHOLE = 65536  # rows up to which a bank is one chunk, kept for the gradient
ALIVE = 2**26  # most similarities held at once, for a batch of known size
FEW_CLASSES = 64  # up to which a product with one-hot labels is faster than a segment sum
LOWEST = -1e30  # lower than any similarity; finite, so that differences are finite too
SMALLEST_SUM = 1e-25  # a larger sum of exponentials has lost no term that matters
LARGEST_EXPONENT = 60.0


def class_log_sums(
    features, bank, labels, num_classes, temperature, index=None, chunk=None
):
    """log of the sum of exp(x . v_j / T) over the rows j of each class.

    No array of batch x rows is larger than a chunk's, in the gradient neither: with more
    than one chunk it computes the similarities again. Where a plain sum of exponentials
    would overflow or vanish, it is taken relative to the largest term of each sample and
    class, at more than twice the cost: numbers are right at any temperature.

    Args:
        features: `(batch, d)`; the gradient flows to them alone.
        bank: `keras.Variable` or tensor, `(N, d)`.
        labels: `(N,)` int32; rows with a label below 0 take no part.
        num_classes: Int, number of classes C.
        temperature: Float > 0, T.
        index: `(batch,)` int32, a row for each sample that takes no part in its sums: its
            own; -1 for none. Or None.
        chunk: Int >= 1, rows at once; by default all of a small bank, for a batch that is
            not large.

    Returns:
        `(batch, num_classes)`; -inf where a class has no row.

    Reference:
        - Wu, Efros, Yu, "Improving Generalization via Scalable Neighborhood Component
          Analysis", ECCV 2018, Eqs. 1-2.
    """
    chunk = chunk or _chunk_size(bank.shape[0], features.shape[0])
    rows = Rows(bank, labels, num_classes, chunk, index)

    @ops.custom_gradient
    def log_sums(features):
        scaled = ops.transpose(features) / temperature  # (d, batch)
        kept = None
        if rows.number == 1:
            kept = [(v, c, ops.exp(s)) for v, c, s in rows.parts(scaled)]
            total = sum(_class_sums(terms, c, num_classes + 1) for _, c, terms in kept)
        else:
            total = rows.reduce(scaled, _plain_sums, rows.zeros(scaled))
        total, is_plain = _checked(total, rows)
        result = ops.cond(
            is_plain, lambda: _log(total), lambda: _log(*_largest_and_sums(scaled, rows))
        )
        result = ops.transpose(result[:num_classes])

        def gradient(*arguments, upstream=None):
            upstream = arguments[0] if upstream is None else upstream
            gradients = _gradient(scaled, rows, result, upstream, is_plain, kept)
            return gradients / temperature

        return result, gradient

    return log_sums(features)


def nearest_class(features, bank, labels, num_classes, chunk=None):
    """Class of the row that is nearest to each sample.

    Args:
        features, bank, labels, num_classes, chunk: As in `class_log_sums`.

    Returns:
        `(similarities, classes)`: `(batch,)`, x . v_j of that row, -inf where there is
        none, and `(batch,)` int32.
    """
    chunk = chunk or _chunk_size(bank.shape[0], features.shape[0])
    rows = Rows(bank, labels, num_classes, chunk, None)

    def better(carry, _, classes, similarities):
        best, nearest = carry
        similarities = ops.where(classes[:, None] < num_classes, similarities, -math.inf)
        highest = ops.max(similarities, axis=0, initial=-math.inf)  # also of no samples
        their_classes = ops.take(classes, ops.argmax(similarities, axis=0), axis=0)
        return ops.maximum(best, highest), ops.where(highest > best, their_classes, nearest)

    transposed = ops.transpose(features)
    start = ops.full_like(transposed[0], -math.inf)
    return rows.reduce(transposed, better, (start, ops.zeros_like(start, dtype="int32")))


class Rows:
    """The rows of a bank, some at a time; the batch's own rows by themselves, at the end.

    Those are few, so that leaving a sample's own row out costs no pass over all of them.

    Args:
        bank, labels, num_classes, index: As in `class_log_sums`.
        size: Int >= 1, rows of a chunk.
    """

    def __init__(self, bank, labels, num_classes, size, index):
        self.num_classes = num_classes
        self.size = min(size, bank.shape[0])
        self.index = index
        self.number = -(-bank.shape[0] // self.size)
        self.bank = replicas.read_all(bank)
        labels = replicas.read_all(labels)
        self.classes = ops.where(labels >= 0, labels, num_classes)
        if index is not None:
            places = ops.maximum(index, 0)
            is_own = ops.segment_sum(
                ops.cast(index >= 0, "int32"), places, num_segments=bank.shape[0]
            )
            own = ops.take(self.classes, places, axis=0)
            counts_once = ops.logical_and(index >= 0, is_first(index))
            self.own_classes = ops.where(counts_once, own, num_classes)
            self.own_rows = replicas.read_rows(self.bank, places)
            self.classes = ops.where(is_own > 0, num_classes, self.classes)

    def zeros(self, scaled):
        return ops.zeros((self.num_classes + 1, ops.shape(scaled)[1]), scaled.dtype)

    def counts(self):
        """Number of rows of each class that take part: `(C + 1, 1)` or `(C + 1, batch)`."""
        segments = self.num_classes + 1
        counts = class_counts(self.classes, segments)[:, None]
        if self.index is not None:
            others = ops.cast(self.index[:, None] != self.index[None], "int32")
            own = ops.segment_sum(others, self.own_classes, num_segments=segments)
            counts = counts + own
        return counts

    def reduce(self, scaled, function, carry):
        """Puts `function(carry, rows, classes, similarities)` to each chunk in turn.

        Similarities are `(size, batch)`; rows that take no part have the class C.
        """

        def body(number, carry):
            return function(carry, *self._chunk(number, scaled))

        carry = ops.fori_loop(0, self.number, body, carry)
        return carry if self.index is None else function(carry, *self._own(scaled))

    def parts(self, scaled):
        """Rows, classes and similarities: of the bank as one chunk, of the batch's rows."""
        parts = [self._chunk(0, scaled)]
        return parts if self.index is None else [*parts, self._own(scaled)]

    def _chunk(self, number, scaled):
        if self.number == 1:
            rows = ops.cast(self.bank, scaled.dtype)
            return rows, self.classes, ops.matmul(rows, scaled)
        # The last chunk begins early, and leaves out what was there before.
        start = ops.minimum(number * self.size, self.bank.shape[0] - self.size)
        start = ops.cast(start, "int32")
        rows = ops.slice(self.bank, (start, 0), (self.size, self.bank.shape[1]))
        rows = ops.cast(rows, scaled.dtype)
        classes = ops.slice(self.classes, (start,), (self.size,))
        places = start + ops.arange(self.size, dtype="int32")
        classes = ops.where(places >= number * self.size, classes, self.num_classes)
        return rows, classes, ops.matmul(rows, scaled)

    def _own(self, scaled):
        rows = ops.cast(self.own_rows, scaled.dtype)
        similarities = ops.matmul(rows, scaled)
        is_own = self.index[:, None] == self.index[None]
        return rows, self.own_classes, ops.where(is_own, -math.inf, similarities)


def _chunk_size(rows, batch):
    if rows <= WHOLE and (batch is None or rows * batch <= ALIVE):
        return rows
    return CHUNK if batch is None else max(1, min(CHUNK, ALIVE // max(batch, 1)))


def class_counts(labels, number):
    """How many of the labels are each of 0, ..., number - 1."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # `tf.math.bincount` looks for the largest label, which XLA cannot compile.
        return tf.raw_ops.DenseBincount(
            input=labels, size=number, weights=tf.constant([], "int32")
        )
    return ops.segment_sum(ops.ones_like(labels), labels, num_segments=number)


def is_first(index):
    """Which samples have no earlier one with their index."""
    places = ops.arange(ops.shape(index)[0], dtype="int32")
    earlier = ops.logical_and(index[:, None] == index[None], places[:, None] > places[None])
    return ops.logical_not(ops.any(earlier, axis=1))


def _class_sums(terms, classes, number):
    """Sums of the rows of each class; an infinite term may make others NaN."""
    if number > FEW_CLASSES:
        return ops.segment_sum(terms, classes, num_segments=number)
    return ops.matmul(ops.transpose(ops.one_hot(classes, number, dtype=terms.dtype)), terms)


def _plain_sums(total, rows, classes, similarities):
    return total + _class_sums(ops.exp(similarities), classes, total.shape[0])


def _checked(total, rows):
    """The sums, and whether none of them has overflowed or lost what matters."""
    has_rows = rows.counts() > 0
    right = ops.logical_or(total > SMALLEST_SUM, ops.logical_not(has_rows))
    right = ops.all(ops.logical_and(right, ops.isfinite(total)))
    return ops.where(has_rows, total, 0.0), right


def _largest_and_sums(scaled, rows):
    """Sums relative to their largest terms, and the logarithms of those."""

    def add(carry, _, classes, similarities):
        total, largest = carry
        segments = largest.shape[0]
        highest = ops.segment_max(similarities, classes, num_segments=segments)
        new = ops.maximum(largest, highest)
        shift = ops.where(new > LOWEST, new, 0.0)
        terms = ops.exp(similarities - ops.take(shift, classes, axis=0))
        total = total * ops.exp(ops.maximum(largest, LOWEST) - shift)
        return total + ops.segment_sum(terms, classes, num_segments=segments), new

    zeros = rows.zeros(scaled)
    return rows.reduce(scaled, add, (zeros, zeros + LOWEST))


def _log(total, largest=0.0):
    return ops.where(total > 0, largest + ops.log(total), -math.inf)


def _gradient(scaled, rows, result, upstream, is_plain, kept):
    """Sum over rows of upstream_c * exp(similarity - result_c) * row: `(batch, d)`.

    `kept` are rows, classes and exponentials of the similarities, or None.
    """
    has_rows = ops.isfinite(result)
    padding = [[0, 1], [0, 0]]  # for rows that take no part
    shift = ops.pad(ops.transpose(ops.where(has_rows, result, 0.0)), padding)
    weights = ops.pad(ops.transpose(ops.where(has_rows, upstream, 0.0)), padding)
    is_plain = ops.logical_and(is_plain, ops.all(ops.abs(shift) < LARGEST_EXPONENT))
    zeros = ops.zeros((ops.shape(scaled)[1], scaled.shape[0]), scaled.dtype)

    def plain():
        factors = weights * ops.exp(-shift)

        def add(total, own_rows, classes, terms):
            weighted = ops.take(factors, classes, axis=0) * terms
            return total + ops.matmul(ops.transpose(weighted), own_rows)

        if kept is not None:
            return functools.reduce(lambda total, part: add(total, *part), kept, zeros)
        return rows.reduce(
            scaled, lambda total, v, c, s: add(total, v, c, ops.exp(s)), zeros
        )

    def relative():
        def add(total, own_rows, classes, similarities):
            weighted = ops.take(weights, classes, axis=0)
            # Rows without weight may lie far above the shift of 0.
            exponents = similarities - ops.take(shift, classes, axis=0)
            terms = weighted * ops.exp(ops.where(weighted == 0, 0.0, exponents))
            return total + ops.matmul(ops.transpose(terms), own_rows)

        return rows.reduce(scaled, add, zeros)

    return ops.cond(is_plain, plain, relative)
