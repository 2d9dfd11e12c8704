# SPDX-License-Identifier: Apache-2.0
"""Sub-centroids: a class is a few centres, which clustering finds and momentum moves."""

import functools

import keras
from keras import ops

from deepncm_tf.classifiers.clustered_samples import ClusteredSamples, draw, gather
from deepncm_tf.classifiers.metrics import DeadSubCentroids, Occupancy
from deepncm_tf.classifiers.nearest_sub_centroid import NearestSubCentroid
from deepncm_tf.distribution import replicas
from deepncm_tf.numerics import centroids, clustering
from deepncm_tf.numerics.memory import FeatureMemory, ranks_in_class, warn_of_small_memory
from deepncm_tf.numerics.momentum import (
    as_momentum,
    current,
    serialize,
    with_learning_rate,
)
from deepncm_tf.utils.arguments import as_positive_integer, check_choice, check_number

CLUSTERINGS = ("sinkhorn", "kmeans")


@keras.saving.register_keras_serializable(package="deepncm_tf")
class SubCentroids(NearestSubCentroid):
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
    those of the memory, whose features are in the compute dtype, half as large in bfloat16;
    trainable scales and offsets of the two layer normalizations.

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
        max_samples: Int, the most samples of a class that are clustered in a step, drawn at
            random, where there is no memory; or None for all.
        seed: Int, of the drawing.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        features: `(batch, ..., d)`.
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

    needs_logits = True
    adapts_from = "features"
    is_held = False  # whether `update` leaves the sub-centroids, once traced anew

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
        max_samples=None,
        seed=0,
        **kwargs,
    ):
        super().__init__(
            num_classes, num_sub_centroids, feature_norm, logit_norm, initializer, **kwargs
        )
        check_choice("clustering", clustering, CLUSTERINGS)
        check_number(
            "sinkhorn_epsilon", sinkhorn_epsilon, "a positive number", lambda x: x > 0
        )
        self.momentum = as_momentum(momentum)
        self.memory_size = 0
        if memory_size != 0:
            self.memory_size = as_positive_integer("memory_size", memory_size, "or 0")
        self.clustering = clustering
        self.sinkhorn_epsilon = float(sinkhorn_epsilon)
        self.sinkhorn_iterations = as_positive_integer(
            "sinkhorn_iterations", sinkhorn_iterations
        )
        self.max_samples = max_samples
        if max_samples is not None:
            self.max_samples = as_positive_integer("max_samples", max_samples, "or None")
            if self.memory_size:
                raise ValueError(
                    "`max_samples` needs memory_size=0: of a memory all samples are "
                    f"clustered. Received: memory_size={memory_size}"
                )
        self.seed = seed
        self._noise = None if max_samples is None else keras.random.SeedGenerator(seed)
        self._memory = None
        self.occupancy = Occupancy(self._sizes_list(), dtype=self.state_dtype)
        self.dead = DeadSubCentroids(self._sizes_list(), dtype=self.state_dtype)

    @classmethod
    def prepare(cls, arguments, plan):
        arguments = dict(arguments)
        if arguments.pop("momentum_schedule", None) == "learning_rate":
            arguments["momentum"] = with_learning_rate(
                arguments["momentum"], plan.learning_rate
            )
        if arguments.get("num_sub_centroids") == "auto":
            sizes = centroids.sizes_for(plan.labels, arguments["num_classes"])
            arguments["num_sub_centroids"] = sizes
        return arguments

    def build(self, features_shape):
        super().build(features_shape)
        if self.memory_size:
            self._memory = FeatureMemory(
                self.add_state,
                self.num_classes,
                -(-self.memory_size // self.num_classes),
                features_shape[-1],
                self.compute_dtype,
            )

    def _update(self, samples, apply):
        correct = ops.argmax(samples.logits, axis=-1) == samples.labels
        units, labels, takes_part, correct = gather(
            samples, self.unit_features(samples.features), correct, apply
        )
        ranks, numbers = ranks_in_class(labels, takes_part, self.num_classes)
        old = ops.convert_to_tensor(self.sub_centroids)
        if self.initializer == "samples":
            before = ops.cast(ops.minimum(self.count, old.shape[1]), "int32")
            places = ranks + ops.take(before, labels, axis=0)
            places = ops.where(takes_part, places, old.shape[1])
            old = centroids.take_first(old, units, labels, places)

        layout, units, counted = self._remember(units, labels, takes_part, correct)
        squares = ops.sum(ops.square(old), axis=-1)
        assigned = self._assign(layout, units, old, squares)
        momentum = current(self.momentum, self.updates, self.state_dtype)
        new, counts = centroids.move(
            old, squares, layout, units, assigned, counted, momentum, apply
        )
        if not self.is_held:
            self.sub_centroids.assign(new)
        self.assign_state(self.updates, self.updates + 1, apply)
        self.count.assign(self.count + ops.cast(numbers, self.count.dtype))
        self.occupancy.update_state(counts)
        self.dead.update_state(counts)

    def _draw(self, units, labels, takes_part, correct):
        drawn = None
        if self.max_samples is not None:
            noise = keras.random.uniform(ops.shape(labels), seed=self._noise)
            drawn = draw(labels, takes_part, noise, self.num_classes, self.max_samples)
        return ClusteredSamples(units, labels, takes_part, correct, self.num_classes, drawn)

    def assigned(self, features, labels):
        """The sub-centroid of its class that clustering the global batch gives a sample.

        Args:
            features, labels: As in `update`.

        Returns:
            `(n,)` int32, and `(n,)` bools, which samples of this replica have one.
        """
        samples = self._samples(features, labels)
        units = self.unit_features(samples.features)
        clustered = self._draw(*gather(samples, units, samples.takes_part))
        old = ops.convert_to_tensor(self.sub_centroids)
        squares = ops.sum(ops.square(old), axis=-1)
        assigned = self._assign(clustered.layout, clustered.units, old, squares)
        count = ops.shape(samples.labels)[0]
        parts = map(ops.stop_gradient, clustered.of_batch(assigned))
        return tuple(replicas.own_rows(part, count) for part in parts)

    def _remember(self, units, labels, takes_part, correct):
        """What is clustered: the batch, or the memory once the batch is in it.

        Returns:
            Its layout, its features of unit length, and 1 for samples that count, else 0.
        """
        if self._memory is None:
            clustered = self._draw(units, labels, takes_part, correct)
            return clustered.layout, clustered.units, clustered.counted
        warn_of_small_memory(self.memory_size, units.shape[0], self._sizes_list())
        self._memory.write(units, labels, correct, takes_part)
        units, counted, is_there = self._memory.read(units.dtype)
        return clustering.ByClass(is_there), units, counted

    def adapt_features(self, features, labels, index, reset):
        units = self.unit_features(features)
        layout = clustering.Flat(labels, self.num_classes)
        old = self.unit_sub_centroids()
        before = ops.copy(self.count) * (not reset)
        past = ops.cast(before, old.dtype)[:, None] / old.shape[1]
        past = ops.broadcast_to(past, old.shape[:2])
        assign = functools.partial(self._assign, layout, units)
        new = centroids.settle(assign, layout, units, old, past)
        count = layout.sum(ops.ones(labels.shape, self.count.dtype))
        self.sub_centroids.assign(new)
        self.count.assign(before + count)
        if reset and self._memory is not None:
            self._memory.clear()

    def regrouped_arguments(self, groups):
        size = -(-self.memory_size // self.num_classes) * len(groups)
        return {**super().regrouped_arguments(groups), "memory_size": size}

    def take_classes(self, other, groups):
        super().take_classes(other, groups)
        if self._memory is not None:
            self._memory.take_classes(other._memory, groups)

    def _update_metrics(self, samples):
        units = self.unit_features(samples.features)
        weights = ops.cast(samples.takes_part, units.dtype)
        layout = clustering.Flat(samples.labels, self.num_classes, weights)
        near = clustering.cosines(layout, units, self.sub_centroids)
        near = clustering.mask_absent(layout, near, self._sizes)
        nearest = ops.one_hot(ops.argmax(near, axis=-1), near.shape[-1], dtype=near.dtype)
        (counts,) = replicas.all_reduce_sum([layout.sum(nearest)])
        self.occupancy.update_state(counts)
        self.dead.update_state(counts)

    def _assign(self, layout, units, sub_centroids, squares):
        iterations = self.sinkhorn_iterations
        if self.clustering == "kmeans":
            return clustering.kmeans(layout, units, sub_centroids, iterations, self._sizes)
        near = clustering.cosines(layout, units, sub_centroids, squares)
        return clustering.assign(
            layout, near, self.sinkhorn_epsilon, iterations, self._sizes
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
            "max_samples",
            "seed",
        )
        arguments = {name: getattr(self, name) for name in names}
        arguments["momentum"] = serialize(self.momentum)
        return {**super().get_config(), **arguments}

    @classmethod
    def from_config(cls, config):
        """Leaves out arguments of earlier versions, which saved models have as None."""
        gone = ("memory_dtype", "revive_after")
        return cls(**{name: value for name, value in config.items() if name not in gone})
