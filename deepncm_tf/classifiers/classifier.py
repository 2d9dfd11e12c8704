# SPDX-License-Identifier: Apache-2.0
"""The base of all classifiers: features in, class logits out, state follows the samples."""

import math

import keras
from keras import ops

from deepncm_tf.classifiers import other_models
from deepncm_tf.classifiers.class_state import ClassState
from deepncm_tf.classifiers.representation import representation
from deepncm_tf.numerics.clustering import unit
from deepncm_tf.numerics.samples import Samples
from deepncm_tf.utils.arguments import as_positive_integer

# Logit of a class without a sample, at inference. It is finite, so that losses and averages
# are; where the other logits are as low, a still lower one is used.
UNSEEN_LOGIT = -1e9


class Classifier(ClassState):
    """Base class of the classifiers.

    A classifier is a layer from features to class logits. Training moves its state in
    `update`, which is called once per step, after the loss has been computed with the
    state of before the step; no gradient flows through it. State and logits are float32
    or wider under every dtype policy, and the state is the same on every replica.

    `DeepNCM` calls `update`. In a Keras model of your own, give the layer the labels, as
    `layer(features, labels)`: in training it then updates itself after the logits.

    A subclass implements `build` and `compute_logits`, and `_update` where it has a state.

    Args:
        num_classes: Int, number of classes C.
        **kwargs: Those of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        features: `(batch, d)`, or `(batch, ..., d)` with more leading axes for dense
            prediction.
        labels: As in `update`, or None: in training the state moves where they are given.
        index: `(batch,)` integers, the samples' rows in a bank; ignored by methods without
            `needs_index`.
        sample_weight: As in `update`.
        training: Bool.

    Output shape:
        `(batch, ..., num_classes)`, float32 or wider.
    """

    needs_index = False  # whether `call` and `update` take the samples' rows in a bank
    needs_logits = False  # whether `_update` looks at the logits
    wants_unit_features = False  # whether features should have unit length
    allows_label_smoothing = True  # whether the loss may ask for all classes a little
    evaluation_metrics = ()  # those that `evaluate` alone reports
    compares_by = "similarity"  # or "distance", whose negative square `compare` gives

    def __init__(self, num_classes, **kwargs):
        # Features come as they are and are cast up, never down to the compute dtype.
        super().__init__(autocast=False, **kwargs)
        self.num_classes = as_positive_integer("num_classes", num_classes)
        self.has_warned = False  # of a model that does not update it

    def __call__(self, features, labels=None, **kwargs):
        if labels is not None:
            return super().__call__(features, labels, **kwargs)
        other_models.warn_where_nothing_updates(self, kwargs.get("training"))
        return super().__call__(features, **kwargs)

    @classmethod
    def prepare(cls, arguments, plan):
        """Completes the constructor's arguments by what follows from the plan of a run.

        Args:
            arguments: Dictionary of what the flags say, by argument; also of what is no
                argument of the constructor itself, such as `momentum_schedule`.
            plan: A `runs.plan.TrainingPlan`.

        Returns:
            Dictionary of arguments of the constructor.
        """
        return arguments

    def build(self, features_shape):
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: features_shape[-1]})

    def compute_output_shape(self, features_shape):
        return (*features_shape[:-1], self.num_classes)

    def compute_output_spec(self, features, *args, **kwargs):
        return keras.KerasTensor(
            self.compute_output_shape(features.shape), dtype=self.state_dtype
        )

    def call(self, features, labels=None, index=None, sample_weight=None, training=False):
        rows = {"index": index} if self.needs_index else {}
        learns = labels is not None and training and self.trainable
        with other_models.before_update(self, learns):
            logits = self.compute_logits(features, training=training, **rows)
        if learns:
            self.update(features, labels, index, sample_weight, logits=logits)
        return logits

    def compute_logits(self, features, training=False):
        """Logits, `(batch, ..., num_classes)`; for subclasses.

        Args:
            features, training: As in a call; methods with `needs_index` also get `index`.
        """
        raise NotImplementedError

    def update(
        self, features, labels, index=None, sample_weight=None, apply=None, logits=None
    ):
        """Moves the state, and the metrics of training, by one (global) batch.

        Args:
            features: `(batch, ..., d)`, the features that gave the loss. A sample with
                a NaN or an infinity in them takes no part.
            labels: Integers `(batch, ...)` or `(batch, ..., 1)`, or class weights
                (one-hot or soft labels) `(batch, ..., num_classes)`, of any numeric
                dtype or bool. A sample whose label is none of 0..num_classes-1 takes no
                part.
            index: `(batch,)` integers, the samples' rows in a bank; for methods with
                `needs_index`.
            sample_weight: `(batch,)` or `(batch, ...)`, or None for ones.
            apply: Scalar bool tensor, whether the state moves; False for a step that is
                skipped for an overflow, for example. None means True.
            logits: `(batch, ..., num_classes)`, those of the features in training, where
                the caller has them; methods with `needs_logits` compute them otherwise.

        Raises:
            ValueError: If shapes do not fit, or weights are negative or not finite, unless
                they are traced, inside a graph. The state is as it was before.
        """
        if self.needs_logits and logits is None:
            logits = self(features, training=True)
        samples = self._samples(
            features, labels, sample_weight, index if self.needs_index else None, logits
        )
        self._update(samples, apply)

    def _update(self, samples, apply):
        """Moves the state by a batch; for subclasses.

        Args:
            samples: `Samples` of this replica.
            apply: As in `update`.
        """

    def _samples(self, features, labels, sample_weight=None, index=None, logits=None):
        self.check_samples(features, labels, sample_weight)
        if not self.built:
            self.build(tuple(features.shape))
        return Samples(
            features,
            labels,
            self.num_classes,
            sample_weight,
            index,
            logits,
            dtype=self.state_dtype,
        )

    def loss_weights(self, labels, rank, index=None):
        """Weights of the samples' losses by which the method leaves some of them out.

        Args:
            labels: As in `update`.
            rank: Int, number of axes of the features.
            index: `(batch,)` integers, the samples' rows in a bank.

        Returns:
            `(batch,)`, or None where all count. The loss is divided by the number of
            samples all the same.
        """
        return

    def update_metrics(self, features, labels, sample_weight=None):
        """Updates the metrics that this method keeps, as for an evaluation.

        Args:
            features, labels, sample_weight: As in `update`.
        """
        self._update_metrics(self._samples(features, labels, sample_weight))

    def _update_metrics(self, samples):
        """Updates the metrics from the samples of this replica; for subclasses."""

    def count_unseen(self, features, labels, sample_weight=None):
        """Number of samples of classes that cannot be predicted, a scalar.

        Args:
            features, labels, sample_weight: As in `update`.
        """
        weights = self._samples(features, labels, sample_weight).class_weights
        return ops.sum(weights * ops.cast(~self.seen(), weights.dtype))

    def seen(self):
        """Which classes can be predicted: `(num_classes,)` bools, or None for all."""
        return

    def prototype_scores(self, features):
        """How near features are to what stands for each class.

        Args:
            features: `(n, d)`.

        Returns:
            `(n, num_classes, K)`, the larger the nearer; -inf where a class has no such
            prototype. Methods without prototypes give their logits, with K = 1.
        """
        return ops.expand_dims(self(features), axis=-1)

    def class_nearness(self, features):
        """How near features are to each class that can be predicted.

        Args:
            features: `(n, d)`.

        Returns:
            `(n, num_classes)`, the largest of each class's `prototype_scores`; -inf where
            the class was not seen.
        """
        nearness = ops.max(self.prototype_scores(features), axis=-1)
        seen = self.seen()
        return nearness if seen is None else ops.where(seen, nearness, -math.inf)

    @property
    def tracks_seen(self):
        """Whether `seen` says anything; no variable is read for it."""
        return type(self).seen is not Classifier.seen

    @property
    def has_state(self):
        """Whether `update` moves anything."""
        return type(self)._update is not Classifier._update

    @property
    def has_prototypes(self):
        """Whether `prototype_scores` are of prototypes, not the logits."""
        return type(self).prototype_scores is not Classifier.prototype_scores

    def unit_features(self, features):
        """Features of unit length, `(batch, ..., d)`: their inner product is a cosine."""
        return unit(ops.cast(features, self.state_dtype))

    def compare(self, features, others):
        """Similarity of features with each other, as this method measures it.

        Args:
            features: `(n, d)`.
            others: `(m, d)`.

        Returns:
            `(n, m)`, the larger the more similar; cosines where a method measures none.
        """
        others = ops.transpose(self.unit_features(others))
        return ops.matmul(self.unit_features(features), others)

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}

    def __repr__(self):
        return representation(self)

    def hide_unseen(self, logits, seen):
        """Puts classes that cannot be predicted below each of the others.

        Args:
            logits: `(batch, ..., num_classes)`, finite.
            seen: Bools of their shape or `(num_classes,)`, which classes stay.

        Returns:
            The logits; `UNSEEN_LOGIT` where a class is hidden, or lower where others are
            as low.
        """
        lowest = 2.0 * ops.sum(ops.minimum(logits, 0.0), axis=-1, keepdims=True) - 1.0
        lowest = ops.stop_gradient(ops.minimum(lowest, UNSEEN_LOGIT))
        return ops.where(seen, logits, lowest)
