# SPDX-License-Identifier: Apache-2.0
"""Sums over a large bank of features, a chunk of rows at a time, forward and backward."""

import math

from keras import ops

from deepncm_tf import replicas

CHUNK = 16_384  # rows of the bank whose similarities are alive at once
LOWEST = -1e30  # below every similarity, and finite, so that differences are


def class_log_sums(
    features, bank, labels, num_classes, temperature, index=None, chunk=CHUNK
):
    """log of the sum of exp(x . v_j / T) over the rows j of each class.

    No array of batch x rows is larger than a chunk's, in the gradient neither: it computes
    the similarities again. Sums are relative to the largest term of each sample and class,
    so that nothing overflows or vanishes at any temperature.

    Args:
        features: `(batch, d)`; the gradient flows to them alone.
        bank: `keras.Variable` or tensor, `(N, d)`.
        labels: `(N,)` int32; rows with a label below 0 take no part.
        num_classes: Int, number of classes C.
        temperature: Float > 0, T.
        index: `(batch,)` int32, a row for each sample that takes no part in its sums: its
            own; -1 for none. Or None.
        chunk: Int >= 1, rows at once.

    Returns:
        `(batch, num_classes)`; -inf where a class has no row.

    Reference:
        - Wu, Efros, Yu, "Improving Generalization via Scalable Neighborhood Component
          Analysis", ECCV 2018, Eqs. 1-2.
    """
    chunks = Chunks(bank, labels, num_classes, min(chunk, bank.shape[0]), index)

    @ops.custom_gradient
    def log_sums(features):
        scaled = ops.transpose(features) / temperature  # (d, batch)
        result = _forward(scaled, chunks)

        def gradient(*arguments, upstream=None):
            upstream = arguments[0] if upstream is None else upstream
            return _backward(scaled, chunks, result, upstream) / temperature

        return result, gradient

    return log_sums(features)


class Chunks:
    """The rows of a bank, some at a time.

    Args:
        bank, labels, num_classes, index: As in `class_log_sums`.
        size: Int, rows of a chunk.
    """

    def __init__(self, bank, labels, num_classes, size, index):
        self.bank = bank
        self.labels = labels
        self.num_classes = num_classes
        self.size = size
        self.index = index
        self.number = -(-bank.shape[0] // size)

    def similarities(self, number, scaled):
        """Those of a chunk: rows `(size, d)`, classes `(size,)`, `(size, batch)`.

        Rows that take no part have the class `num_classes`.
        """
        # The last chunk begins early, and leaves out what was there before.
        start = ops.minimum(number * self.size, self.bank.shape[0] - self.size)
        places = start + ops.arange(self.size, dtype="int32")
        rows = replicas.read_rows(self.bank, places)
        classes = replicas.read_rows(self.labels, places)
        takes_part = ops.logical_and(classes >= 0, places >= number * self.size)
        classes = ops.where(takes_part, classes, self.num_classes)
        similarities = ops.matmul(ops.cast(rows, scaled.dtype), scaled)
        if self.index is not None:
            own = places[:, None] == self.index[None]
            similarities = ops.where(own, -math.inf, similarities)
        return rows, classes, similarities


def _forward(scaled, chunks):
    segments = chunks.num_classes + 1
    shape = (segments, ops.shape(scaled)[1])

    def body(number, carry):
        largest, total = carry
        _, classes, similarities = chunks.similarities(number, scaled)
        here = ops.segment_max(similarities, classes, num_segments=segments)
        new = ops.maximum(largest, here)
        shift = ops.where(new > LOWEST, new, 0.0)
        terms = ops.exp(similarities - ops.take(shift, classes, axis=0))
        total = total * ops.exp(ops.maximum(largest, LOWEST) - shift)
        total += ops.segment_sum(terms, classes, num_segments=segments)
        return new, total

    start = ops.full(shape, LOWEST, dtype=scaled.dtype), ops.zeros(shape, scaled.dtype)
    largest, total = ops.fori_loop(0, chunks.number, body, start)
    result = ops.where(total > 0, largest + ops.log(total), -math.inf)
    return ops.transpose(result[: chunks.num_classes])


def _backward(scaled, chunks, result, upstream):
    there = ops.isfinite(result)
    padding = [[0, 1], [0, 0]]  # for rows that take no part
    shift = ops.pad(ops.transpose(ops.where(there, result, 0.0)), padding)
    weights = ops.pad(ops.transpose(ops.where(there, upstream, 0.0)), padding)

    def body(number, total):
        rows, classes, similarities = chunks.similarities(number, scaled)
        weighted = ops.take(weights, classes, axis=0)
        # Rows without weight may lie far above the shift of 0.
        exponents = similarities - ops.take(shift, classes, axis=0)
        terms = weighted * ops.exp(ops.where(weighted == 0, 0.0, exponents))
        return total + ops.matmul(ops.transpose(terms), ops.cast(rows, scaled.dtype))

    start = ops.zeros((ops.shape(scaled)[1], scaled.shape[0]), scaled.dtype)
    return ops.fori_loop(0, chunks.number, body, start)
