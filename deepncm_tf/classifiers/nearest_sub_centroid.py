# SPDX-License-Identifier: Apache-2.0
"""The score of a class is the similarity with the nearest of its sub-centroids."""

import functools
import math

import keras
from keras import ops

from deepncm_tf.classifiers.classifier import Classifier
from deepncm_tf.numerics import centroids, statistics
from deepncm_tf.numerics.clustering import inverse_root, unit
from deepncm_tf.numerics.layer_norm import add_norm, layer_norm
from deepncm_tf.numerics.precision import sum_dtype
from deepncm_tf.utils.arguments import check_choice, check_number

INITIALIZERS = ("random", "class", "orthogonal", "samples")


class NearestSubCentroid(Classifier):
    """Base class of `SubCentroids`: where the sub-centroids are, not how they move.

    Args:
        num_classes, num_sub_centroids, feature_norm, logit_norm, initializer, **kwargs: As
            in `SubCentroids`.
    """

    def __init__(
        self,
        num_classes,
        num_sub_centroids,
        feature_norm,
        logit_norm,
        initializer,
        **kwargs,
    ):
        super().__init__(num_classes, **kwargs)
        self.num_sub_centroids = centroids.as_sizes(num_sub_centroids, self.num_classes)
        check_choice("feature_norm", feature_norm, ("layer", None))
        if logit_norm != "layer":
            wanted = '"layer" or a positive temperature'
            check_number("logit_norm", logit_norm, wanted, lambda x: x > 0)
            logit_norm = float(logit_norm)
        check_choice("initializer", initializer, INITIALIZERS)
        self.feature_norm = feature_norm
        self.logit_norm = logit_norm
        self.initializer = initializer

    def _sizes_list(self):
        sizes = self.num_sub_centroids
        return [sizes] * self.num_classes if isinstance(sizes, int) else list(sizes)

    @property
    def _sizes(self):
        """K of each class for `clustering`: None where it is the same for all."""
        return None if isinstance(self.num_sub_centroids, int) else self.num_sub_centroids

    def build(self, features_shape):
        super().build(features_shape)
        dimensions = features_shape[-1]
        shape = (self.num_classes, max(self._sizes_list()), dimensions)
        initializer = {
            "class": centroids.near_class_directions,
            "orthogonal": centroids.near_orthogonal_directions,
        }.get(self.initializer, keras.initializers.TruncatedNormal(stddev=0.02))
        self.sub_centroids = self.add_state("sub_centroids", shape, initializer=initializer)
        self.count = self.add_state("count", (self.num_classes,), dtype=sum_dtype())
        self.updates = self.add_state("updates", (), dtype="int32")
        if self.feature_norm == "layer":
            self.feature_scale, self.feature_offset = add_norm(self, "feature", dimensions)
        if self.logit_norm == "layer":
            self.logit_scale, self.logit_offset = add_norm(self, "logit", self.num_classes)

    @property
    def feature_variables(self):
        if self.feature_norm != "layer":
            return []
        return [self.feature_scale, self.feature_offset]

    def compute_logits(self, features, training=False):
        scores = self.similarities(features)
        if self.logit_norm == "layer":
            logits = layer_norm(scores, self.logit_scale, self.logit_offset)
        else:
            logits = scores / self.logit_norm
        return logits if training else self.hide_unseen(logits, self.seen())

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
            exists = places < ops.convert_to_tensor(self._sizes)[:, None]
            cosines = ops.where(exists, cosines, -math.inf)
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

    def spread(self):
        """Mean cosine between two sub-centroids of a class, a float; 1 where they are one.

        None where each class has one.
        """
        return centroids.mean_cosine(self.unit_sub_centroids(), self._sizes_list())

    def prototype_scores(self, features):
        return self.all_similarities(features)

    def anchor(self, exemplars):
        """Puts the sub-centroids on the features of exemplars, where there are any.

        Args:
            exemplars: `explanation.Exemplars`.
        """
        has_exemplar = ops.convert_to_tensor(exemplars.index >= 0)[..., None]
        anchored = self.unit_features(exemplars.features)
        self.sub_centroids.assign(
            ops.where(has_exemplar, anchored, ops.copy(self.sub_centroids))
        )

    def regrouped_arguments(self, groups):
        sizes = self._sizes_list()
        most = max(sizes)  # of a new class
        sizes = [sum(sizes[c] for c in group) or most for group in groups]
        return {"num_sub_centroids": sizes[0] if len(set(sizes)) == 1 else sizes}

    def take_classes(self, other, groups):
        """A class of several has the sub-centroids of all of them."""
        old, numbers = ops.convert_to_numpy(other.sub_centroids), other._sizes_list()
        new = ops.convert_to_numpy(self.sub_centroids).copy()
        for c, group in enumerate(groups):
            own = [row for label in group for row in old[label, : numbers[label]]]
            for k, row in enumerate(own):
                new[c, k] = row
        self.sub_centroids.assign(new)
        self.count.assign(statistics.sum_groups(other.count, groups))
        self.updates.assign(ops.copy(other.updates))
        for name in ("feature_scale", "feature_offset"):
            if hasattr(other, name):
                getattr(self, name).assign(ops.copy(getattr(other, name)))
        for name in ("logit_scale", "logit_offset"):
            if hasattr(other, name):
                means = statistics.sum_groups(getattr(other, name), groups)
                sizes = [float(max(len(group), 1)) for group in groups]
                means = means / ops.convert_to_tensor(sizes, means.dtype)
                is_new = ops.convert_to_tensor([not group for group in groups])
                start = ops.copy(getattr(self, name))
                getattr(self, name).assign(ops.where(is_new, start, means))

    def seen(self):
        return ops.copy(self.count) > 0
