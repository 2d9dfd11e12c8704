# SPDX-License-Identifier: Apache-2.0
"""Neighborhood components: a class is its samples, kept in a bank of features."""

import keras
from keras import ops

from deepncm_tf.classifiers.classifier import Classifier
from deepncm_tf.distribution import replicas
from deepncm_tf.numerics.bank import UNKNOWN, Bank, make_rows
from deepncm_tf.numerics.clustering import unit
from deepncm_tf.numerics.momentum import as_momentum, by_steps, current, serialize
from deepncm_tf.numerics.samples import class_numbers
from deepncm_tf.utils.arguments import as_positive_integer, check_number


@keras.saving.register_keras_serializable(package="deepncm_tf")
class NeighborhoodComponents(Classifier):
    """Classifier by all training samples (scalable NCA).

    A bank has a row v_j for each training sample. The logit of class c for the feature x of
    sample i is

        log sum over j in class c, j != i, of exp(x . v_j / T);

    the softmax of these logits is the probability that a neighbour of sample i, drawn with
    probability proportional to exp(x . v_j / T), is of class c, and its cross-entropy is
    the NCA loss. After each training step, with x the feature of sample i,

        v_i <- unit(momentum * v_i + (1 - momentum) * x).

    Features should have unit length (`DeepNCM(normalize=True)` makes it so). Time grows
    with the size of the bank, memory only with a chunk of it.

    Variables, none trainable: `bank` `(bank_size, d)`, which starts as uniform noise in
    ±sqrt(3 / d), `bank_labels` `(bank_size,)` and `updates`, the number of them.

    Args:
        num_classes: Int, number of classes C.
        bank_size: Int N, number of training samples.
        temperature: Float > 0, T.
        momentum: Float in [0, 1), weight of the past in a row; or a
            `keras.optimizers.schedules.LearningRateSchedule` of the number of updates.
        margin: Float >= 0, in units of similarity: margin / T is taken from the logit of
            the sample's own class where its `index` is given.
        bank_labels: `(N,)` integers, classes of the training samples. By default a row's
            class is known, and the row takes part, from its sample's first update on.
        bank_sharding: Bool, whether replicas share the bank's rows out among themselves
            instead of each holding all of them. Results are the same, up to rounding; a
            saved model holds the whole bank.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        features: `(batch, d)`.
        index: `(batch,)` integers, the samples' own rows, which take no part; -1 for
            samples that have none. Or None, when all rows take part. An index past the
            bank is a `ValueError` where its value is known; inside a graph, that sample
            has no row, and `update` leaves it out.
        training: Ignored.

    Output shape:
        `(batch, num_classes)`.

    Deviations:
        A sample that is alone in its class has no probability of being right: its loss is
        left out, and the loss still divided by the whole batch, as in the official code.
        Of several samples with one index in a batch, the last is written.

    Reference:
        - Wu, Efros, Yu, "Improving Generalization via Scalable Neighborhood Component
          Analysis", ECCV 2018, sections 3.1-3.3.

    Example:
        >>> nca = NeighborhoodComponents(num_classes=2, bank_size=3, bank_labels=[0, 1, 1])
        >>> x = keras.ops.convert_to_tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> nca.update(x, [0, 1], index=[0, 1])
        >>> tuple(nca(x, index=[0, 1]).shape)
        (2, 2)
    """

    needs_index = True
    adapts_from = "features"
    wants_unit_features = True
    allows_label_smoothing = False  # the loss is the chance of a neighbour of the class

    def __init__(
        self,
        num_classes,
        bank_size,
        temperature=0.05,
        momentum=0.5,
        margin=0.0,
        bank_labels=None,
        bank_sharding=False,
        **kwargs,
    ):
        super().__init__(num_classes, **kwargs)
        self.bank_size = as_positive_integer("bank_size", bank_size)
        check_number("temperature", temperature, "a positive number", lambda x: x > 0)
        check_number("margin", margin, "a number >= 0", lambda x: x >= 0)
        self.temperature = float(temperature)
        self.momentum = as_momentum(momentum)
        self.margin = float(margin)
        if bank_labels is not None:
            self._check_labels(bank_labels)
        self._first_labels = bank_labels
        self.bank_sharding = bank_sharding
        # Accuracy of the nearest row's class, the original's monitor of training.
        self.knn_accuracy = keras.metrics.Mean(name="knn_accuracy", dtype=self.state_dtype)

    @property
    def evaluation_metrics(self):
        return [self.knn_accuracy]

    @classmethod
    def prepare(cls, arguments, plan):
        arguments = {**arguments, "bank_size": len(plan.labels), "bank_labels": plan.labels}
        if arguments.pop("momentum_schedule", None) == "steps":
            arguments["momentum"] = by_steps(arguments["momentum"], plan.total_steps)
        return arguments

    def build(self, features_shape):
        super().build(features_shape)
        if len(features_shape) != 2:
            raise ValueError(
                "Features must be (batch, d): the bank has a row for each image. "
                f"Received: shape {tuple(features_shape)}; pool them"
            )
        dimensions = features_shape[-1]
        self.bank = make_rows(
            self.bank_size,
            dimensions,
            self.state_dtype,
            limit=(3.0 / dimensions) ** 0.5,
            shared_out=self.bank_sharding,
        )
        self.bank_labels = self.add_state(
            "bank_labels", (self.bank_size,), dtype="int32", initializer=self._labels
        )
        self.updates = self.add_state("updates", (), dtype="int32")
        self._bank = Bank(self.bank, self.bank_labels, self.num_classes)

    def _labels(self, shape, dtype=None):
        if self._first_labels is None:
            return ops.full(shape, UNKNOWN, dtype=dtype)
        return ops.convert_to_tensor(self._first_labels, dtype=dtype)

    def _check_labels(self, labels):
        labels = ops.convert_to_tensor(labels)
        shape = tuple(labels.shape)
        if shape != (self.bank_size,):
            raise ValueError(
                f"`bank_labels` must have a label for each of {self.bank_size} rows. "
                f"Received: shape {shape}"
            )
        low, high = int(ops.min(labels)), int(ops.max(labels))
        if (
            not keras.backend.is_int_dtype(labels.dtype)
            or low < UNKNOWN
            or (high >= self.num_classes)
        ):
            raise ValueError(
                f"`bank_labels` must be integers from 0 to {self.num_classes - 1}, or "
                f"{UNKNOWN} where unknown. Received: {low} to {high}, {labels.dtype}"
            )

    def compute_logits(self, features, index=None, training=False):
        features = ops.cast(features, self.state_dtype)
        if index is not None:
            index = self._rows(index)
        sums = self._bank.class_log_sums(features, self.temperature, index)
        has_row = ops.isfinite(sums)
        logits = ops.where(has_row, sums, 0.0)
        if self.margin and index is not None:
            labels = self._bank.labels_of(index)
            own_class = ops.one_hot(labels, self.num_classes, dtype=logits.dtype)
            logits = logits - self.margin / self.temperature * own_class
        return self.hide_unseen(logits, has_row)

    def _update_metrics(self, samples):
        _, nearest = self._bank.nearest_class(samples.features)
        self.knn_accuracy.update_state(
            nearest == samples.labels, sample_weight=samples.takes_part
        )

    def _update(self, samples, apply):
        if samples.index is None:
            raise ValueError(
                "`index`, the samples' rows in the bank, must be given, as the input "
                '{"image": images, "index": index}; only `fit` with images in an array '
                "adds it by itself. Received: index=None"
            )
        takes_part = samples.takes_part
        if apply is not None:
            takes_part = ops.logical_and(takes_part, apply)
        is_finite = ops.all(ops.isfinite(samples.features), axis=-1)
        takes_part = ops.cast(ops.logical_and(takes_part, is_finite), "int32")
        numbers = ops.stack([samples.labels, self._rows(samples.index), takes_part], axis=1)
        features, numbers = replicas.all_gather([samples.features, numbers])
        labels, index, takes_part = numbers[:, 0], numbers[:, 1], numbers[:, 2] > 0
        momentum = current(self.momentum, self.updates, self.state_dtype)

        def move(old):
            new = momentum * old + (1.0 - momentum) * features
            # Where the two cancel, the row keeps its direction.
            return unit(ops.where(ops.any(new != 0, axis=-1, keepdims=True), new, old))

        self._bank.write(index, labels, is_last(index, takes_part), move)
        self.assign_state(self.updates, self.updates + 1, apply)

    def adapt_features(self, features, labels, index, reset):
        self.check_index(index)
        arrays = map(ops.convert_to_numpy, (index, labels, self.unit_features(features)))
        self._bank.fill(*arrays, reset)

    def take_classes(self, other, groups):
        numbers = {label: c for c, group in enumerate(groups) for label in group}
        labels = ops.convert_to_numpy(other.bank_labels).tolist()
        self._bank.assign(ops.convert_to_numpy(other._bank.whole()))
        self.bank_labels.assign([numbers.get(label, UNKNOWN) for label in labels])
        self.updates.assign(ops.copy(other.updates))

    def loss_weights(self, labels, rank, index=None):
        labels, _ = class_numbers(labels, self.num_classes, rank)
        others = ops.take(self._bank.counts(), labels, axis=0)
        if index is not None:
            is_own = self._bank.labels_of(self._rows(index)) == labels
            others = others - ops.cast(is_own, others.dtype)
        return ops.cast(others > 0, self.state_dtype)

    def check_index(self, index):
        """Raises a `ValueError` where a sample's row is past the bank.

        Args:
            index: `(batch,)` array, the samples' rows; below 0 for none.
        """
        index = ops.convert_to_numpy(index)
        if index.size and index.max() >= self.bank_size:
            raise ValueError(
                "`index` must be the samples' rows in the bank, below `bank_size`="
                f"{self.bank_size}, or -1 for none. Received: an index of {index.max()}"
            )

    def _rows(self, index):
        """Rows of the bank as `(batch,)` int32, -1 for samples that have none."""
        if not ops.is_tensor(index) or hasattr(index, "numpy"):  # known on the host
            self.check_index(index)
        index = ops.reshape(ops.convert_to_tensor(index), (-1,))
        # Compared in a dtype that holds both: a cast to int32 wraps round.
        index = ops.cast(index, keras.backend.result_type(index.dtype, "int32"))
        is_row = ops.logical_and(index >= 0, index < self.bank_size)
        return ops.cast(ops.where(is_row, index, -1), "int32")

    def seen(self):
        return self._bank.counts() > 0

    def save_own_variables(self, store):
        """Saves the whole bank, whatever the number of replicas."""
        store["bank"] = self._bank.whole()
        store["bank_labels"] = self.bank_labels
        store["updates"] = self.updates

    def load_own_variables(self, store):
        """Loads a bank that any number of replicas has saved."""
        self._bank.assign(store["bank"])
        self.bank_labels.assign(store["bank_labels"])
        self.updates.assign(store["updates"])

    def get_config(self):
        return {
            **super().get_config(),
            "bank_size": self.bank_size,
            "temperature": self.temperature,
            "momentum": serialize(self.momentum),
            "margin": self.margin,
            "bank_sharding": self.bank_sharding,
            # Labels are state, which the weights hold: a config stays small.
            "bank_labels": None,
        }


def is_last(index, takes_part):
    """Which samples take part and have no later one that does with their index.

    Args:
        index: `(n,)` int32.
        takes_part: `(n,)` bools.
    """
    places = ops.arange(ops.shape(index)[0], dtype="int32")
    later = ops.logical_and(index[:, None] == index[None], places[:, None] < places[None])
    later = ops.logical_and(later, takes_part[None])
    return ops.logical_and(takes_part, ops.logical_not(ops.any(later, axis=1)))
