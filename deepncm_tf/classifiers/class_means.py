# SPDX-License-Identifier: Apache-2.0
"""What the class-mean methods share: logits, and an update from class sums."""

import copy

from keras import ops

from deepncm_tf.classifiers.classifier import Classifier
from deepncm_tf.classifiers.metrics import RelativeMeanDistance
from deepncm_tf.numerics import array_sums, statistics
from deepncm_tf.numerics.clustering import unit
from deepncm_tf.numerics.precision import sum_dtype
from deepncm_tf.utils.arguments import check_choice, check_number, is_number

LOWEST_LOGIT = -1e30


class ClassMeans(Classifier):
    """Base class of the methods with one mean per class.

    The logit of class c for feature x is -||x - m_c||^2 / temperature, or with
    `metric="cosine"` cos(x - center, m_c - center) / temperature. `unit_length=True` with
    the mean of other data as the `center` is SimpleShot's CL2N: features are centred and
    scaled to unit length, and means are those of the scaled features.

    During training a class that has had no sample has its mean at the origin and competes
    like any other. During inference it is never predicted: its logit is -1e9, or
    lower where the others are as low.

    On GPUs, TensorFlow computes matrix products in TF32 unless
    `tf.config.experimental.enable_tensor_float_32_execution(False)` is called: distances of
    features from near means then keep about three digits.

    A subclass has a property `means`, a variable `count`, and `next_state`.

    Args:
        num_classes: Int, number of classes C.
        metric: `"euclidean"` or `"cosine"`.
        center: A sequence of d numbers that is taken from features; `"mean"` for the mean
            of all samples so far, with `metric="cosine"`; or None.
        unit_length: Bool, whether features are scaled to unit length, after `center`.
        temperature: Float > 0, by which logits are divided.
        **kwargs: Those of `keras.layers.Layer`.

    Reference:
        - Wang, Chao, Weinberger, van der Maaten, "SimpleShot: Revisiting Nearest-Neighbor
          Classification for Few-Shot Learning", 2019, section 3.

    Call arguments:
        features: `(batch, ..., d)`.
        training: Bool, whether classes without a sample compete.

    Output shape:
        `(batch, ..., num_classes)`.
    """

    adapts_from = "statistics"

    def __init__(
        self,
        num_classes,
        metric="euclidean",
        center=None,
        unit_length=False,
        temperature=1.0,
        **kwargs,
    ):
        super().__init__(num_classes, **kwargs)
        check_choice("metric", metric, ("euclidean", "cosine"))
        check_number("temperature", temperature, "a positive number", lambda x: x > 0)
        self.metric = metric
        self.center = _as_center(center)
        self.unit_length = bool(unit_length)
        self.temperature = float(temperature)
        if self.center == "mean" and (metric != "cosine" or self.unit_length):
            raise ValueError(
                '`center` must be numbers or None, unless metric="cosine" and '
                "unit_length=False: the mean of all samples moves, and other distances do "
                f"not depend on it. Received: center='mean', metric={metric!r}, "
                f"unit_length={self.unit_length}"
            )
        self.rmd = RelativeMeanDistance(dtype=self.state_dtype)

    def build(self, features_shape):
        super().build(features_shape)
        if isinstance(self.center, list) and len(self.center) != features_shape[-1]:
            raise ValueError(
                f"`center` must have the features' {features_shape[-1]} dimensions. "
                f"Received: {len(self.center)} numbers"
            )
        self.count = self.add_state("count", (self.num_classes,), dtype=sum_dtype())

    def compute_logits(self, features, training=False):
        logits = self._similarities(features)
        return logits if training else self.hide_unseen(logits, self.seen())

    def _prepared(self, features):
        """Features as the means are made of them: centred, of unit length."""
        features = ops.cast(features, self.state_dtype)
        if isinstance(self.center, list):
            center = ops.convert_to_tensor(self.center, self.state_dtype)
            if self.unit_length:
                return _direction(features, center)
            return features - center
        return unit(features) if self.unit_length else features

    def _similarities(self, features):
        """Logits, also of classes without a sample."""
        features, means = self._prepared(features), self.means
        if self.metric == "euclidean":
            similarities = negative_squared_distances(features, means)
        else:
            similarities = self._cosines(features, means)
        # By default nothing is divided: the lowest logit would be no lower.
        return similarities / self.temperature if self.temperature != 1 else similarities

    def _cosines(self, features, others):
        middle = self._middle(self.means)
        others = ops.transpose(_direction(others, middle))
        return ops.matmul(_direction(features, middle), others)

    def _middle(self, means):
        """The mean of all samples, `(d,)`, or zeros where it is not asked for."""
        if self.center != "mean":
            return ops.zeros_like(means[0])
        shares = ops.divide_no_nan(self.counts, ops.sum(self.counts))
        return ops.sum(means * ops.cast(shares, means.dtype)[:, None], axis=0)

    def class_sums(self, samples):
        prepared = copy.copy(samples)
        prepared.features = self._prepared(samples.features)
        return super().class_sums(prepared)

    def _update(self, samples, apply):
        sums, counts = self.class_sums(samples)
        self.rmd.update_state(sums, counts, self.means)
        # All of the new state is computed before any of it is assigned.
        for variable, value in list(self.next_state(sums, counts)):
            self.assign_state(variable, value, apply)

    def next_state(self, sums, counts):
        """The state after a batch.

        Args:
            sums: `(num_classes, d)`, S_c of the global batch, of `sum_dtype`.
            counts: `(num_classes,)`, n_c of the global batch, of `sum_dtype`.

        Returns:
            Pairs of a variable and its new value.
        """
        raise NotImplementedError

    def new_statistics(self, add_state, dimensions):
        return [statistics.ClassStatistics(add_state, self.num_classes, dimensions)]

    def batch_statistics(self, samples):
        features = self._prepared(samples.features)
        return [statistics.sums_of(features, samples.class_weights)]

    def array_statistics(self, features, labels):
        if self.unit_length or isinstance(self.center, list):
            return None
        sums = array_sums.class_sums(features, labels, self.num_classes, self.state_dtype)
        return None if sums is None else [sums]

    def read_statistics(self):
        counts = ops.cast(self.counts, sum_dtype())
        return [statistics.of_sums(counts, self._totals(counts))]

    def _totals(self, counts):
        """S_c, `(num_classes, d)`."""
        return ops.cast(self.means, sum_dtype()) * counts[:, None]

    def _update_metrics(self, samples):
        self.rmd.update_state(*self.class_sums(samples), means=self.means)

    def prototype_scores(self, features):
        return ops.expand_dims(self._similarities(features), axis=-1)

    @property
    def compares_by(self):
        return "distance" if self.metric == "euclidean" else "similarity"

    def compare(self, features, others):
        """-||x - x'||^2, or with `metric="cosine"` their cosine: `(n, m)`."""
        features, others = self._prepared(features), self._prepared(others)
        if self.metric == "euclidean":
            return negative_squared_distances(features, others)
        return self._cosines(features, others)

    def get_config(self):
        names = ("metric", "center", "unit_length", "temperature")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def seen(self):
        return self.counts > 0

    @property
    def means(self):
        """The class means, `(num_classes, d)`; at the origin without a sample."""
        raise NotImplementedError

    @property
    def counts(self):
        """The weight of the samples behind each mean, `(num_classes,)`."""
        return ops.copy(self.count)  # a value, where Keras would hand out the variable


def negative_squared_distances(features, means):
    """-||x - m_c||^2, expanded so that the work is one matrix product.

    Args:
        features: `(..., d)`.
        means: `(num_classes, d)`.

    Returns:
        `(..., num_classes)`, at least -1e30, so that it is finite for any finite input.
    """
    products = ops.matmul(features, ops.transpose(means))  # (..., C)
    norms = ops.sum(ops.square(features), axis=-1, keepdims=True)  # (..., 1)
    logits = 2.0 * products - norms - ops.sum(ops.square(means), axis=-1)
    return ops.maximum(ops.where(ops.isnan(logits), LOWEST_LOGIT, logits), LOWEST_LOGIT)


def _direction(vectors, origin):
    """Unit vectors from a point to others; halves, whose differences do not overflow."""
    return unit(0.5 * vectors - 0.5 * origin)


def _as_center(center):
    """`center` as None, "mean" or a list of floats, or a `ValueError`."""
    if center is None or (isinstance(center, str) and center == "mean"):
        return center
    try:
        numbers = [] if isinstance(center, str) else ops.convert_to_numpy(center).tolist()
    except (TypeError, ValueError):
        numbers = []
    if not isinstance(numbers, list) or not numbers or not all(map(is_number, numbers)):
        raise ValueError(
            '`center` must be a sequence of numbers, "mean" or None. Received: center='
            f"{center!r}"
        )
    return [float(number) for number in numbers]
