# SPDX-License-Identifier: Apache-2.0
"""A batch as classifiers learn from it: a row for each sample, labels in one form."""

import functools

from keras import ops

from deepncm_tf.numerics import labels as label_forms


class Samples:
    """The samples of a batch: of `(batch, ..., d)` features n rows, without the inner axes.

    Labels and weights are brought into the form that a classifier asks for, once.

    Args:
        features: `(batch, ..., d)`.
        labels: Integers `(batch, ...)` or `(batch, ..., 1)`, or class weights
            `(batch, ..., num_classes)`, of any numeric dtype or bool.
        num_classes: Int, number of classes C.
        sample_weight: `(batch,)` or `(batch, ...)`, or None for ones.
        index: `(batch,)` integers, the samples' rows in a bank, or None.
        logits: `(batch, ..., num_classes)`, or None.
        dtype: String, of the features and weights.

    Attributes:
        features: `(n, d)` of `dtype`; no gradient flows to them.
        index: As given.
        logits: `(n, num_classes)`, or None.
    """

    def __init__(
        self,
        features,
        labels,
        num_classes,
        sample_weight=None,
        index=None,
        logits=None,
        dtype="float32",
    ):
        self.rank = len(features.shape)
        self.num_classes = num_classes
        self.dtype = dtype
        features = ops.stop_gradient(ops.cast(features, dtype))
        self.features = ops.reshape(features, (-1, features.shape[-1]))
        self.index = index
        self.logits = None
        if logits is not None:
            self.logits = ops.reshape(logits, (-1, num_classes))
        self._labels = labels
        self._sample_weight = sample_weight

    @functools.cached_property
    def _classes(self):
        return class_numbers(self._labels, self.num_classes, self.rank, self._sample_weight)

    @property
    def labels(self):
        """Class of each sample, `(n,)` int32 in [0, C)."""
        return self._classes[0]

    @property
    def takes_part(self):
        """Whether a sample counts: `(n,)` bools; see `class_numbers`."""
        return self._classes[1]

    @functools.cached_property
    def class_weights(self):
        """Weight of each sample in each class: `(n, C)`."""
        labels = label_forms.normalize(self._labels, self.num_classes, self.rank)
        sample_weight = label_forms.normalize_weights(
            self._sample_weight, labels.shape[: self.rank - 1]
        )
        if label_forms.is_class_weights(labels, self.rank):
            weights = ops.cast(labels, self.dtype)
        else:
            weights = ops.one_hot(labels, self.num_classes, dtype=self.dtype)
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, self.dtype)
            while len(sample_weight.shape) < self.rank:
                sample_weight = ops.expand_dims(sample_weight, axis=-1)
            weights = weights * sample_weight
        return ops.reshape(weights, (-1, self.num_classes))


def class_numbers(labels, num_classes, rank, sample_weight=None):
    """The class of each sample, and whether it takes part, without the inner axes.

    Args:
        labels, num_classes, sample_weight: As in `Samples`; a sample with class weights is
            of the class of the largest.
        rank: Int, number of axes of the features.

    Returns:
        `(n,)` int32 in [0, num_classes), and `(n,)` bools: a sample takes part where its
        label is a class and its weight is above 0.
    """
    labels = label_forms.normalize(labels, num_classes, rank)
    shape = labels.shape[: rank - 1]
    if label_forms.is_class_weights(labels, rank):
        takes_part = ops.max(labels, axis=-1) > 0
        labels = ops.cast(ops.argmax(labels, axis=-1), "int32")
    else:
        takes_part = ops.logical_and(labels >= 0, labels < num_classes)
    weights = label_forms.normalize_weights(sample_weight, shape)
    if weights is not None:
        while len(weights.shape) < rank - 1:
            weights = ops.expand_dims(weights, axis=-1)
        takes_part = ops.logical_and(takes_part, weights > 0)
    labels = ops.clip(labels, 0, num_classes - 1)
    return ops.reshape(labels, (-1,)), ops.reshape(takes_part, (-1,))


def refuse_none(takes_part, name):
    """Raises a `ValueError` where no sample takes part.

    Args:
        takes_part: Bools or weights of samples or classes.
        name: String, name of the argument with the samples.
    """
    if not bool(ops.any(takes_part)):
        raise ValueError(
            f"`{name}` must hold at least one sample that takes part: it has a class, a "
            "weight above 0 and finite features. Received: none"
        )
