# SPDX-License-Identifier: Apache-2.0
"""The state of a classifier: its variables, and sums over samples that they follow."""

import keras
from keras import ops

from deepncm_tf.distribution import replicas
from deepncm_tf.numerics import labels as label_forms
from deepncm_tf.numerics import statistics
from deepncm_tf.numerics.precision import sum_dtype
from deepncm_tf.numerics.samples import refuse_none

BLOCK = 1024  # rows that float32 adds up one by one
BATCH_SIZE = 4096  # of `adapt`


class ClassState(keras.layers.Layer):
    """Base class of `Classifier`: what has to do with its state alone.

    A subclass whose state follows from class statistics has `adapts_from = "statistics"`,
    `new_statistics`, `batch_statistics`, `read_statistics` and `write_statistics`; one
    whose state follows from the features of all samples `"features"` and `adapt_features`.
    """

    # What `DeepNCM.adapt` sets the state from: "statistics", "features", or None.
    adapts_from = None
    unlearns = False  # whether samples can be taken out of the statistics, to the bit

    def check_adapts(self):
        """Raises a `ValueError` where the state does not follow from features."""
        if self.adapts_from is None:
            name = type(self).__name__
            raise ValueError(
                "`adapt` needs a classifier whose state follows from features. "
                f"{name} has weights that only gradients find: use `fit`. Received: "
                f"classifier={self!r}"
            )

    @property
    def feature_variables(self):
        """Variables that training finds and that belong to features, not to classes."""
        return []

    def refresh(self):
        """Computes what follows from the state, where that is too costly for each update.

        `fit` calls it at the end of each epoch, and `adapt` at its end.
        """

    def new_statistics(self, add_state, dimensions):
        """Statistics of no sample yet, of the kind that the state follows from.

        Args:
            add_state: Function `(name, shape, dtype=)` that adds a variable.
            dimensions: Int, d of the features.

        Returns:
            List of `statistics.ClassStatistics`.
        """
        raise NotImplementedError

    def batch_statistics(self, samples):
        """Statistics of the global batch.

        Args:
            samples: `Samples` of this replica.

        Returns:
            List of `statistics.Sums`, in the order of `new_statistics`.
        """
        raise NotImplementedError

    def array_statistics(self, features, labels):
        """Statistics of arrays at once, where that is faster than in batches; else None.

        Args:
            features: `(n, d)`.
            labels: `(n,)`.

        Returns:
            As `batch_statistics`, equal to the bit where they are exact; or None.
        """
        return

    def read_statistics(self):
        """The statistics that the state stands for, a list of `statistics.Sums`."""
        raise NotImplementedError

    def write_statistics(self, folds):
        """Makes the state that of statistics; `refresh` is still to be called.

        Args:
            folds: List of `statistics.Sums`.
        """
        raise NotImplementedError

    def adapt(
        self, features, labels, sample_weight=None, reset=True, batch_size=BATCH_SIZE
    ):
        """Sets the state from features, in one pass: `DeepNCM.adapt` without a backbone.

        Args:
            features: `(n, d)` array.
            labels: `(n,)` integers or `(n, num_classes)` class weights, an array. A sample
                whose label is no class takes no part, nor one with a NaN or an infinity.
            sample_weight: `(n,)` array, or None for ones.
            reset: Bool, whether the state is that of these samples alone. The number of
                updates stays, by which schedules go, and sub-centroids begin where they
                are.
            batch_size: Int, samples whose statistics are added up at once.

        Raises:
            ValueError: If the state does not follow from features, shapes do not fit,
                weights are negative or not finite, or the state would be replaced where no
                sample takes part. The state is as it was before.
        """
        self.check_adapts()
        self.check_samples(features, labels, sample_weight)
        if not self.built:
            self.build(tuple(features.shape))
        replaces = reset and len(features)  # an empty array gives the state of no sample
        if self.adapts_from == "features":
            samples = self._samples(features, labels, sample_weight)
            keep = ops.convert_to_numpy(
                ops.logical_and(
                    samples.takes_part, ops.all(ops.isfinite(samples.features), axis=-1)
                )
            )
            if replaces:
                refuse_none(keep, "features")
            features, labels = map(ops.convert_to_numpy, (samples.features, samples.labels))
            index = ops.convert_to_numpy(ops.full_like(samples.labels, -1))
            self.adapt_features(features[keep], labels[keep], index[keep], reset)
            return
        new = None
        if sample_weight is None:
            new = self.array_statistics(features, labels)
        if new is None:
            new = self._statistics_in_batches(features, labels, sample_weight, batch_size)
        if replaces:
            refuse_none(ops.concatenate([sums.counts for sums in new]), "features")
        for sums in new:
            if sums.moment is None:  # with second moments `refresh` says it
                statistics.warn_where_rounded(sums)
        if not reset:
            new = list(map(statistics.add, self.read_statistics(), new))
        self.write_statistics(new)
        self.refresh()

    def check_samples(self, features, labels, sample_weight=None):
        """Raises a `ValueError` where samples do not fit the classifier, or each other.

        Args:
            features, labels, sample_weight: As in `Classifier.update`.
        """
        shape = label_forms.known_shape(features, "features")
        wanted = self.input_spec.axes.get(-1) if self.input_spec else None
        if len(shape) < 2 or (None not in (shape[-1], wanted) and shape[-1] != wanted):
            raise ValueError(
                f"`features` must be of shape (batch, ..., {wanted or 'd'}), as the "
                f"classifier was built for. Received: features of shape {shape}"
            )
        label_forms.check(labels, sample_weight, self.num_classes, shape)

    def _statistics_in_batches(self, features, labels, sample_weight, batch_size):
        folds = None
        for start in range(0, max(len(features), 1), batch_size):
            part = slice(start, start + batch_size)
            weights = None if sample_weight is None else sample_weight[part]
            batch = self.batch_statistics(
                self._samples(features[part], labels[part], weights)
            )
            folds = batch if folds is None else list(map(statistics.add, folds, batch))
        return folds

    def adapt_features(self, features, labels, index, reset):
        """Makes the state that of samples, or with `reset=False` adds them to it.

        Args:
            features: `(n, d)`, of samples that take part.
            labels: `(n,)` int32 in [0, num_classes).
            index: `(n,)` int32, rows in a bank; -1 where a sample has none.
            reset: Bool.
        """
        raise NotImplementedError

    def regrouped_arguments(self, groups):
        """Arguments of the constructor, beside `num_classes`, that follow from classes.

        Args:
            groups: As in `take_classes`.

        Returns:
            Dictionary.
        """
        return {}

    def take_classes(self, other, groups):
        """Takes the state of another classifier of this kind, whose classes were others.

        Args:
            other: `Classifier` of the same class and arguments.
            groups: List of tuples of ints: for each class those of `other` that it is, one
                or several, or none for a new class.
        """
        if self.adapts_from == "statistics":
            self.write_statistics(
                [statistics.regroup(sums, groups) for sums in other.read_statistics()]
            )

    def is_exact(self):
        """Whether the state is to the bit that of its samples on the grid, a bool."""
        return False

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

    def assign_state(self, variable, value, apply):
        """Gives a variable a new value, or where `apply` is False its old one."""
        value = ops.cast(value, variable.dtype)
        if apply is not None:
            value = ops.where(apply, value, ops.copy(variable))
        variable.assign(value)

    def class_sums(self, samples):
        """Sums the features of each class over the global batch.

        Args:
            samples: `Samples` of this replica.

        Returns:
            `(sums, counts)`: `(num_classes, d)`, S_c = sum of w x over the samples of
            class c, and `(num_classes,)`, n_c = sum of w, both of `sum_dtype`; soft labels
            count by their share.
        """
        # Zero times NaN is NaN: such features are taken out, whatever their weight.
        takes_part = ops.all(ops.isfinite(samples.features), axis=-1, keepdims=True)
        weights = ops.where(takes_part, samples.class_weights, 0.0)
        features = ops.where(takes_part, samples.features, 0.0)
        # A power of two rounds nothing, and sums of the largest numbers do not overflow.
        sums = ops.matmul(ops.transpose(weights * 2.0**-24), features)  # (C, d)
        sums = ops.cast(sums, sum_dtype()) * 2.0**24
        return replicas.all_reduce_sum([sums, _sum_of_rows(weights)])


def _sum_of_rows(values):
    """Sum over the first axis, of blocks of rows: of a million it would be 1 % off."""
    values = ops.concatenate(
        [values, ops.zeros((-ops.shape(values)[0] % BLOCK, values.shape[1]), values.dtype)]
    )
    blocks = ops.sum(ops.reshape(values, (-1, BLOCK, values.shape[1])), axis=1)
    return ops.sum(ops.cast(blocks, sum_dtype()), axis=0)
