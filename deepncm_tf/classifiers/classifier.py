# SPDX-License-Identifier: Apache-2.0
"""The base of all classifiers: features in, class logits out, state follows the samples."""

import keras
from keras import ops

from deepncm_tf import replicas
from deepncm_tf.arguments import as_positive_integer
from deepncm_tf.clustering import unit

# The logit, at inference, of a class that has had no sample: finite, so that losses and
# averages stay finite; lower still where the other logits are as low.
UNSEEN_LOGIT = -1e9


class Classifier(keras.layers.Layer):
    """Base class of the classifiers.

    A classifier is a layer from features to class logits. Training moves its state in
    `update`, which is called once per step, after the loss has been computed with the
    state of before the step; no gradient flows through it. State and logits are float32
    or wider under every dtype policy, and the state is the same on every replica.

    A subclass implements `build` and `call`, and `update` where it has a state.

    Args:
        num_classes: Int, number of classes C.
        **kwargs: Those of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        features: `(batch, d)`, or `(batch, ..., d)` with more leading axes for dense
            prediction.
        index: `(batch,)` integers, the samples' rows in a bank; ignored by methods that
            keep no bank.
        training: Bool.

    Output shape:
        `(batch, ..., num_classes)`, float32 or wider.
    """

    needs_index = False  # whether `update` needs the samples' rows in a bank
    wants_unit_features = False  # whether features should have unit length
    evaluation_metrics = ()  # those that `evaluate` alone reports

    def __init__(self, num_classes, **kwargs):
        # Features come as they are and are cast up, never down to the compute dtype.
        super().__init__(autocast=False, **kwargs)
        self.num_classes = as_positive_integer("num_classes", num_classes)

    @classmethod
    def data_arguments(cls, arguments, labels):
        """Completes the constructor's arguments by what follows from the training data.

        Args:
            arguments: Dictionary of arguments.
            labels: `(n,)` integers, classes of the training samples in order.
        """
        return arguments

    def compute_output_shape(self, features_shape):
        return (*features_shape[:-1], self.num_classes)

    def compute_output_spec(self, features, index=None, training=False):
        return keras.KerasTensor(
            self.compute_output_shape(features.shape), dtype=self.state_dtype
        )

    def call(self, features, index=None, training=False):
        raise NotImplementedError

    def update(
        self, features, labels, index=None, sample_weight=None, where=None, logits=None
    ):
        """Moves the state, and the metrics of training, by one (global) batch.

        Args:
            features: `(batch, ..., d)`, the features that gave the loss.
            labels: Integers `(batch, ...)` or `(batch, ..., 1)`, or class weights
                (one-hot or soft labels) `(batch, ..., num_classes)`. A sample whose
                integer label is outside 0..num_classes-1 takes no part.
            index: `(batch,)` integers, the samples' rows in a bank.
            sample_weight: `(batch,)` or `(batch, ...)`, or None for ones.
            where: Scalar bool tensor; where it is False the state keeps its value, as
                in a step that is skipped for an overflow. None means True.
            logits: `(batch, ..., num_classes)`, those of the features in training, where
                the caller has them; methods that need them compute them otherwise.
        """

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
        """Updates the metrics that this method keeps, as for an evaluation."""

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

    @property
    def state_dtype(self):
        """Dtype of state and logits: the variable dtype, but never below float32."""
        return keras.backend.result_type(self.variable_dtype, "float32")

    def add_state(self, name, shape, dtype=None, initializer="zeros"):
        """Adds a non-trainable variable that every replica holds alike.

        The state is assigned from all-reduced values, so that any replica's value is the
        value; taking the first one's makes the copies equal to the bit.
        """
        return self.add_weight(
            name=name,
            shape=shape,
            dtype=dtype or self.state_dtype,
            initializer=initializer,
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )

    def class_sums(self, features, labels, sample_weight=None):
        """Sums the features of each class over the global batch.

        Args:
            features, labels, sample_weight: As in `update`.

        Returns:
            `(sums, counts)`: `(num_classes, d)`, S_c = sum of w x over the samples of
            class c, and `(num_classes,)`, n_c = sum of w; soft labels count by their share.
        """
        features = ops.stop_gradient(ops.cast(features, self.state_dtype))
        if not self.built:
            self.build(tuple(features.shape))
        weights = self.class_weights(labels, len(features.shape), sample_weight)
        weights = ops.reshape(weights, (-1, self.num_classes))  # (n, C)
        features = ops.reshape(features, (-1, features.shape[-1]))  # (n, d)
        sums = ops.matmul(ops.transpose(weights), features)  # (C, d)
        return replicas.all_reduce_sum([sums, ops.sum(weights, axis=0)])

    def flat_labels(self, labels, rank, sample_weight=None):
        """The class of each sample, and whether it takes part, without the inner axes.

        Args:
            labels, sample_weight: As in `update`; a sample with class weights is of the
                class of the largest.
            rank: Int, number of axes of the features.

        Returns:
            `(n,)` int32 in [0, num_classes), and `(n,)` bools: a sample takes part where
            its label is a class and its weight is above 0.
        """
        labels = ops.convert_to_tensor(labels)
        if len(labels.shape) == rank and labels.shape[-1] == self.num_classes != 1:
            takes_part = ops.max(labels, axis=-1) > 0
            labels = ops.argmax(labels, axis=-1)
        else:
            labels = self._integer_labels(labels, rank)
            takes_part = ops.logical_and(labels >= 0, labels < self.num_classes)
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, self.state_dtype)
            while len(sample_weight.shape) < rank - 1:
                sample_weight = ops.expand_dims(sample_weight, axis=-1)
            takes_part = ops.logical_and(takes_part, sample_weight > 0)
        labels = ops.clip(ops.cast(labels, "int32"), 0, self.num_classes - 1)
        return ops.reshape(labels, (-1,)), ops.reshape(takes_part, (-1,))

    def _integer_labels(self, labels, rank):
        if len(labels.shape) == rank and labels.shape[-1] == 1:
            labels = ops.squeeze(labels, axis=-1)
        if len(labels.shape) != rank - 1:
            raise ValueError(
                "`labels` must be integers with one axis less than the features, or "
                f"weights of {self.num_classes} classes in their last axis. Received: "
                f"labels of shape {tuple(labels.shape)} for features with {rank} axes"
            )
        return ops.cast(labels, "int32")

    def class_weights(self, labels, rank, sample_weight=None):
        """Weight of each sample in each class: `(batch, ..., num_classes)`.

        Args:
            labels, sample_weight: As in `update`.
            rank: Int, number of axes of the features.
        """
        labels = ops.convert_to_tensor(labels)
        if len(labels.shape) == rank and labels.shape[-1] == self.num_classes != 1:
            weights = ops.cast(labels, self.state_dtype)
        else:
            weights = ops.one_hot(
                self._integer_labels(labels, rank), self.num_classes, dtype=self.state_dtype
            )
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, self.state_dtype)
            while len(sample_weight.shape) < rank:
                sample_weight = ops.expand_dims(sample_weight, axis=-1)
            weights = weights * sample_weight
        return weights
