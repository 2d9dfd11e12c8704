# SPDX-License-Identifier: Apache-2.0
"""Sub-centroids: a class is a few centres, which clustering finds and momentum moves."""

import collections
import functools
import math
import warnings

import keras
from keras import ops

from deepncm_tf.classifiers.classifier import UNSEEN_LOGIT, Classifier
from deepncm_tf.classifiers.metrics import DeadSubCentroids, Occupancy
from deepncm_tf.distribution import replicas
from deepncm_tf.numerics import centroids, clustering
from deepncm_tf.numerics.clustering import inverse_root, unit
from deepncm_tf.numerics.layer_norm import add_norm, layer_norm
from deepncm_tf.numerics.memory import FeatureMemory, ranks_in_class
from deepncm_tf.numerics.momentum import as_momentum, current, serialize
from deepncm_tf.numerics.precision import sum_dtype
from deepncm_tf.utils.arguments import as_positive_integer, check_choice, check_number

INITIALIZERS = ("random", "class", "orthogonal", "samples")
CLUSTERINGS = ("sinkhorn", "kmeans")


@keras.saving.register_keras_serializable(package="deepncm_tf")
class SubCentroids(Classifier):
    """Nearest-centroid classifier with K sub-centroids per class (DNC).

    Features and sub-centroids p_ck have unit length. The score of class c for feature x is
    that of its nearest sub-centroid, s_c = max_k <x, p_ck>; logits are scores after
    `logit_norm`. After each training step the samples of each class, those of a memory
    included, are clustered into K equal parts, and with f_ck the direction of the sum of
    the samples assigned to p_ck that were classified correctly,

        p_ck <- unit(momentum * p_ck + (1 - momentum) * f_ck);

    sub-centroids without such a sample stay. No gradient flows through any of this.

    Variables: `sub_centroids` `(num_classes, K, d)`, of any length (their direction is
    what counts); `count` `(num_classes,)`, samples seen; `updates`, the number of them;
    those of the memory; trainable scales and offsets of the two layer normalizations.

    Args:
        num_classes: Int, number of classes C.
        num_sub_centroids: Int K, or a sequence of C ints, K of each class.
        momentum: Float in [0, 1), weight of the past; or a
            `keras.optimizers.schedules.LearningRateSchedule` of the number of updates.
        memory_size: Int, number of samples that are clustered, of each class the last
            `ceil(memory_size / C)`, those of the batch among them; a batch or more. 0 for
            the batch alone.
        feature_norm: `"layer"` for a layer normalization of the features, or None.
        logit_norm: `"layer"` for a layer normalization over the classes' scores, or a
            float > 0, the temperature by which they are divided.
        clustering: `"sinkhorn"` or `"kmeans"`.
        sinkhorn_epsilon: Float > 0, weight of the entropy in `"sinkhorn"`.
        sinkhorn_iterations: Int, iterations of the clustering.
        initializer: `"random"`; `"class"`, a random direction for each class, from which
            its sub-centroids differ a little; `"orthogonal"`, the same with directions
            at right angles; or `"samples"`, the first samples of each.
        memory_dtype: Dtype of the features in memory, such as `"bfloat16"`; by default
            that of the state.
        revive_after: Int, steps of its class without a sample after which a sub-centroid
            is moved to the sample of its class that is farthest from the others, or None.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        features: `(batch, ..., d)`.
        index: Ignored.
        training: Bool, whether classes without a sample compete.

    Output shape:
        `(batch, ..., num_classes)`.

    Deviations:
        Paper: Eq. 7 has no temperature; with cosines as logits the softmax of many classes
        is almost flat, hence `logit_norm`. The memory is first in, first out, for each
        class by itself instead of for all samples together, and says of a sample whether
        it was classified correctly when it came.
        Official code: clusters by accelerated gradient descent with Gumbel noise, gathers
        a memory and then empties it, and gives the backbone no gradient in those steps;
        its normalizations are the defaults here, and with the batch as the memory the
        steps are equal. A lone sample goes to its nearest sub-centroid, not to the first.

    Reference:
        - Wang, Han, Zhou, Liu, "Visual Recognition with Deep Nearest Centroids", ICLR
          2023, section 3, Algorithm 1 and Eqs. 3-8.

    Example:
        >>> classifier = SubCentroids(num_classes=10, num_sub_centroids=2)
        >>> logits = classifier(keras.ops.ones((4, 8)))
        >>> tuple(logits.shape), tuple(classifier.sub_centroids.shape)
        ((4, 10), (10, 2, 8))
    """

    def __init__(
        self,
        num_classes,
        num_sub_centroids=4,
        momentum=0.999,
        memory_size=0,
        feature_norm="layer",
        logit_norm="layer",
        clustering="sinkhorn",
        sinkhorn_epsilon=0.05,
        sinkhorn_iterations=3,
        initializer="random",
        memory_dtype=None,
        revive_after=None,
        **kwargs,
    ):
        super().__init__(num_classes, **kwargs)
        self.num_sub_centroids = centroids.as_sizes(num_sub_centroids, self.num_classes)
        check_choice("feature_norm", feature_norm, ("layer", None))
        if logit_norm != "layer":
            wanted = '"layer" or a positive temperature'
            check_number("logit_norm", logit_norm, wanted, lambda x: x > 0)
            logit_norm = float(logit_norm)
        check_choice("clustering", clustering, CLUSTERINGS)
        check_number(
            "sinkhorn_epsilon", sinkhorn_epsilon, "a positive number", lambda x: x > 0
        )
        check_choice("initializer", initializer, INITIALIZERS)
        self.momentum = as_momentum(momentum)
        self.memory_size = 0
        if memory_size != 0:
            self.memory_size = as_positive_integer("memory_size", memory_size, "or 0")
        self.feature_norm = feature_norm
        self.logit_norm = logit_norm
        self.clustering = clustering
        self.sinkhorn_epsilon = float(sinkhorn_epsilon)
        self.sinkhorn_iterations = as_positive_integer(
            "sinkhorn_iterations", sinkhorn_iterations
        )
        self.initializer = initializer
        if memory_dtype is not None:
            try:
                memory_dtype = keras.backend.standardize_dtype(memory_dtype)
            except ValueError as error:
                raise ValueError(f"`memory_dtype`: {error}") from error
        self.memory_dtype = memory_dtype
        if revive_after is not None:
            as_positive_integer("revive_after", revive_after)
        self.revive_after = revive_after

        self._memory = None
        sizes = self._sizes_list()
        self.occupancy = Occupancy(sizes, dtype=self.state_dtype)
        self.dead = DeadSubCentroids(sizes, dtype=self.state_dtype)

    @classmethod
    def data_arguments(cls, arguments, labels):
        if arguments.get("num_sub_centroids") != "auto":
            return arguments
        found = collections.Counter(int(label) for label in labels)
        counts = [found[c] for c in range(arguments["num_classes"])]
        return {**arguments, "num_sub_centroids": centroids.sizes_by_count(counts)}

    def _sizes_list(self):
        sizes = self.num_sub_centroids
        return [sizes] * self.num_classes if isinstance(sizes, int) else list(sizes)

    @property
    def _sizes(self):
        """K of each class for `clustering`: None where it is the same for all."""
        return None if isinstance(self.num_sub_centroids, int) else self.num_sub_centroids

    def build(self, features_shape):
        dimensions = features_shape[-1]
        shape = (self.num_classes, max(self._sizes_list()), dimensions)
        initializer = {
            "class": centroids.near_class_directions,
            "orthogonal": centroids.near_orthogonal_directions,
        }.get(self.initializer, keras.initializers.TruncatedNormal(stddev=0.02))
        self.sub_centroids = self.add_state("sub_centroids", shape, initializer=initializer)
        self.count = self.add_state("count", (self.num_classes,), dtype=sum_dtype())
        self.updates = self.add_state("updates", (), dtype="int32")
        if self.revive_after is not None:
            self.idle = self.add_state("idle", shape[:2], dtype="int32")
        if self.feature_norm == "layer":
            self.feature_scale, self.feature_offset = add_norm(self, "feature", dimensions)
        if self.logit_norm == "layer":
            self.logit_scale, self.logit_offset = add_norm(self, "logit", self.num_classes)
        if self.memory_size:
            self._memory = FeatureMemory(
                self.add_state,
                self.num_classes,
                -(-self.memory_size // self.num_classes),
                dimensions,
                self.memory_dtype or self.state_dtype,
            )

    def call(self, features, index=None, training=False):
        scores = self.similarities(features)
        if self.logit_norm == "layer":
            logits = layer_norm(scores, self.logit_scale, self.logit_offset)
        else:
            logits = scores / self.logit_norm
        if training:
            return logits
        # Below each of the others, whatever the temperature.
        lowest = 2.0 * ops.sum(ops.minimum(logits, 0.0), axis=-1, keepdims=True) - 1.0
        return ops.where(self.seen(), logits, ops.minimum(lowest, UNSEEN_LOGIT))

    def similarities(self, features):
        """Cosine of each feature with the nearest sub-centroid of each class.

        Args:
            features: `(batch, ..., d)`.

        Returns:
            `(batch, ..., num_classes)`.
        """
        # Faster than a maximum over an axis, and its gradient; also of no samples.
        cosines = ops.unstack(self.all_similarities(features), axis=-1)
        return functools.reduce(ops.maximum, cosines)

    def all_similarities(self, features):
        """Cosine of each feature with each sub-centroid.

        Args:
            features: `(batch, ..., d)`.

        Returns:
            `(batch, ..., num_classes, K)`; -inf for those that a class does not have.
        """
        units = self.unit_features(features)
        sub_centroids = ops.convert_to_tensor(self.sub_centroids)  # (C, K, d)
        flat = ops.reshape(sub_centroids, (-1, units.shape[-1]))
        # Few products are scaled instead of many sub-centroids.
        cosines = ops.matmul(units, ops.transpose(flat)) * inverse_root(
            ops.sum(ops.square(flat), axis=-1)
        )
        shape = (*ops.shape(units)[:-1], *sub_centroids.shape[:2])
        cosines = ops.reshape(cosines, shape)
        if self._sizes is not None:
            places = ops.arange(sub_centroids.shape[1])[None]
            there = places < ops.convert_to_tensor(self._sizes)[:, None]
            cosines = ops.where(there, cosines, -math.inf)
        return cosines

    def unit_features(self, features):
        """Features after `feature_norm`, of unit length: `(batch, ..., d)`."""
        features = ops.cast(features, self.state_dtype)
        if self.feature_norm == "layer":
            features = layer_norm(features, self.feature_scale, self.feature_offset)
        return unit(features)

    def unit_sub_centroids(self):
        """The sub-centroids, of unit length: `(num_classes, K, d)`."""
        return unit(ops.convert_to_tensor(self.sub_centroids))

    def update(
        self, features, labels, index=None, sample_weight=None, where=None, logits=None
    ):
        if not self.built:
            self.build(tuple(features.shape))
        if logits is None:
            logits = self(features, training=True)
        labels, takes_part = self.flat_labels(labels, len(features.shape), sample_weight)
        correct = ops.reshape(ops.argmax(logits, axis=-1), (-1,)) == labels
        if where is not None:
            takes_part = ops.logical_and(takes_part, where)
        units = ops.reshape(self.unit_features(features), (-1, features.shape[-1]))
        takes_part = ops.logical_and(takes_part, ops.all(ops.isfinite(units), axis=-1))
        units, labels, takes_part, correct = _gather(units, labels, takes_part, correct)

        ranks, numbers = ranks_in_class(labels, takes_part, self.num_classes)
        units = ops.where(takes_part[:, None], units, 0.0)  # others may be NaN
        old = ops.convert_to_tensor(self.sub_centroids)
        if self.initializer == "samples":
            before = ops.cast(ops.minimum(self.count, old.shape[1]), "int32")
            places = ranks + ops.take(before, labels, axis=0)
            places = ops.where(takes_part, places, old.shape[1])
            old = centroids.take_first(old, units, labels, places)
        if self._memory is None:
            samples = clustering.Flat(
                labels, self.num_classes, ops.cast(takes_part, units.dtype)
            )
            counted = ops.cast(correct, units.dtype)
        else:
            self._warn_of_small_memory(units.shape[0])
            self._memory.write(units, labels, correct, takes_part)
            units, counted, there = self._memory.read(units.dtype)
            samples = clustering.ByClass(there)
        squares = ops.sum(ops.square(old), axis=-1)
        assigned = self._assign(samples, units, old, squares)
        momentum = current(self.momentum, self.updates, self.state_dtype)
        new, counts = centroids.move(
            old, squares, samples, units, assigned, counted, momentum, where
        )
        taken = 1 if where is None else ops.cast(where, "int32")
        self.updates.assign(self.updates + taken)
        if self.revive_after is not None:
            idle = ops.copy(self.idle)
            new, idle = centroids.revive(
                new, counts, idle, self.revive_after, samples, units, self._sizes
            )
            new = self._if(where, new, self.sub_centroids)
            self.idle.assign(self._if(where, idle, self.idle))
        self.sub_centroids.assign(new)
        self.count.assign(self.count + ops.cast(numbers, self.count.dtype))
        self.occupancy.update_state(counts)
        self.dead.update_state(counts)

    def update_metrics(self, features, labels, sample_weight=None):
        labels, takes_part = self.flat_labels(labels, len(features.shape), sample_weight)
        units = ops.reshape(self.unit_features(features), (-1, features.shape[-1]))
        weights = ops.cast(takes_part, units.dtype)
        samples = clustering.Flat(labels, self.num_classes, weights)
        near = clustering.cosines(samples, units, self.sub_centroids)
        near = clustering.mask_absent(samples, near, self._sizes)
        nearest = ops.one_hot(ops.argmax(near, axis=-1), near.shape[-1], dtype=near.dtype)
        (counts,) = replicas.all_reduce_sum([samples.sum(nearest)])
        self.occupancy.update_state(counts)
        self.dead.update_state(counts)

    def prototype_scores(self, features):
        return self.all_similarities(features)

    def anchor(self, exemplars):
        """Puts the sub-centroids on the features of exemplars, where there are any.

        Args:
            exemplars: `explanation.Exemplars`.
        """
        there = ops.convert_to_tensor(exemplars.index >= 0)[..., None]
        anchored = self.unit_features(exemplars.features)
        self.sub_centroids.assign(ops.where(there, anchored, ops.copy(self.sub_centroids)))

    def seen(self):
        return ops.copy(self.count) > 0

    def _warn_of_small_memory(self, batch):
        size = max(self._sizes_list())
        if max(batch or 0, size * self.num_classes) > self.memory_size:
            warnings.warn(
                "`memory_size` should be a batch or more, and K samples of each class or "
                "more: those that do not fit do not count. Received: memory_size="
                f"{self.memory_size} with a batch of {batch}, {self.num_classes} classes "
                f"and K={size}",
                stacklevel=2,
            )

    @staticmethod
    def _if(where, value, variable):
        return value if where is None else ops.where(where, value, ops.copy(variable))

    def _assign(self, samples, units, sub_centroids, squares):
        iterations = self.sinkhorn_iterations
        if self.clustering == "kmeans":
            return clustering.kmeans(samples, units, sub_centroids, iterations, self._sizes)
        near = clustering.cosines(samples, units, sub_centroids, squares)
        return clustering.assign(
            samples, near, self.sinkhorn_epsilon, iterations, self._sizes
        )

    def get_config(self):
        names = (
            "num_sub_centroids",
            "memory_size",
            "feature_norm",
            "logit_norm",
            "clustering",
            "sinkhorn_epsilon",
            "sinkhorn_iterations",
            "initializer",
            "memory_dtype",
            "revive_after",
        )
        arguments = {name: getattr(self, name) for name in names}
        arguments["momentum"] = serialize(self.momentum)
        return {**super().get_config(), **arguments}


def _gather(units, labels, takes_part, correct):
    """The samples of all replicas, as on one device."""
    flags = [ops.cast(flag, "int32") for flag in (takes_part, correct)]
    numbers = ops.stack([labels, *flags], axis=1)
    units, numbers = replicas.all_gather([ops.stop_gradient(units), numbers])
    return units, numbers[:, 0], numbers[:, 1] > 0, numbers[:, 2] > 0
