# SPDX-License-Identifier: Apache-2.0
"""Models whose logits come from a classifier: how a step moves it, and what it reports."""

import contextlib
import inspect

import keras
import numpy as np
from keras import ops

from deepncm_tf.distribution import replicas
from deepncm_tf.models.exact_model import ExactModel
from deepncm_tf.models.inputs import INDEX, ONLY, is_arrays, unpack_inputs
from deepncm_tf.models.losses import (
    LogitCrossEntropy,
    expects_probabilities,
    ignored_in_mean,
)
from deepncm_tf.models.no_samples import RefuseEmpty, refuse_empty
from deepncm_tf.numerics import labels
from deepncm_tf.numerics.precision import sum_dtype


class Refresh(keras.callbacks.Callback):
    """Lets the classifier of a model compute what follows from its state, each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.refresh()


class ClassifierModel(ExactModel):
    """An `ExactModel` with a classifier.

    A subclass makes the attribute `classifier`, calls `track_unseen` after it, and has
    `check_inputs` and, once it is built, `features_shape`, `_features_dtype` and
    `_predict_features`, the `predict` of a model of the features, besides the hooks of
    `ExactStep` that are not here.
    """

    judgements = ()  # names of attributes that hold as long as the weights stay

    def track_unseen(self):
        """Makes the metric `unseen`, which evaluations report."""
        self._unseen = keras.metrics.Sum(name="unseen")
        self._evaluating = False
        self._fitting = False

    def compute_output_spec(self, *args, **kwargs):
        """What a call gives, which is more than `compute_output_shape` says."""
        logits = super().compute_output_spec(*args, **kwargs)
        if not isinstance(logits, keras.KerasTensor):  # of a subclass that gives more
            return logits
        logits = keras.KerasTensor(logits.shape, dtype=self.classifier.state_dtype)
        arguments = inspect.signature(self.call).bind(*args, **kwargs).arguments
        if not arguments.get("return_features"):
            return logits
        shape = (logits.shape[0], *self.features_shape[1:])
        return logits, keras.KerasTensor(shape, dtype=self._features_dtype)

    def check_inputs(self, x):
        """Raises a `ValueError` where inputs in arrays have other shapes."""
        raise NotImplementedError

    def compile(self, optimizer="rmsprop", loss=None, **kwargs):
        """Configures the model for training, as `keras.Model.compile` does.

        Args:
            optimizer: As in Keras. Do not let it clip gradients where there are
                replicas (it would clip before their sum): see `gradient_clip`.
            loss: None for softmax cross-entropy on the logits, with integer or one-hot
                labels; or any Keras loss that takes logits.
            **kwargs: Those of `keras.Model.compile`, such as `metrics`.

        Raises:
            ValueError: If the loss expects probabilities, or cannot be averaged over
                replicas.
        """
        if loss is None:
            loss = LogitCrossEntropy(ignore_class=self.ignore_class)
        loss = keras.losses.get(loss)
        ignored = getattr(loss, "ignore_class", None)
        if self.ignore_class is not None and ignored != self.ignore_class:
            raise ValueError(
                f"`loss` must have the model's ignore_class={self.ignore_class}, or be "
                "None; for losses without one make the model with ignore_class=None. "
                f"Received: loss={loss!r} with ignore_class={ignored}"
            )
        if expects_probabilities(loss):
            raise ValueError(
                "`loss` must take logits, which is what DeepNCM gives. Leave it out for "
                "cross-entropy, or pass for example "
                "keras.losses.SparseCategoricalCrossentropy(from_logits=True). "
                f"Received: loss={loss!r}"
            )
        super().compile(optimizer=optimizer, loss=loss, **kwargs)

    def loss_weights(self, x, y, rank):
        _, index = unpack_inputs(x)
        return self.classifier.loss_weights(y, rank, index)

    def mean_weights(self, y):
        """The mean is over all labels; this makes of it one over those that count."""
        is_ours = isinstance(self.loss, LogitCrossEntropy)
        ignored = self.ignore_class if is_ours else ignored_in_mean(self.loss)
        if ignored is None or labels.is_class_weights(y, self.output_rank):
            return None
        counted = ops.cast(y != ignored, sum_dtype())
        sums = [ops.sum(counted), ops.sum(ops.ones_like(counted))]
        counted_labels, all_labels = replicas.all_reduce_sum(sums)
        weight = all_labels / ops.maximum(counted_labels, 1.0)
        ones = ops.ones_like(ops.reshape(counted, (ops.shape(counted)[0], -1))[:, 0])
        dtype = keras.backend.result_type(keras.config.floatx(), "float32")
        return ops.cast(weight * ones, dtype)

    def update_state(self, x, y, outputs, sample_weight, apply):
        _, index = unpack_inputs(x)
        logits, features, *_ = outputs
        apply = apply & self.classifier.trainable
        y = self.known_labels(y)
        self.classifier.update(
            features, y, index, sample_weight, apply=apply, logits=logits
        )

    def update_evaluation(self, y, outputs, sample_weight):
        features, y = outputs[1], self.known_labels(y)
        self.classifier.update_metrics(features, y, sample_weight)
        if self.classifier.tracks_seen:
            counted = None if sample_weight is None else sample_weight > 0
            unseen = self.classifier.count_unseen(features, y, counted)
            self._unseen.update_state(unseen)

    def refresh(self):
        """Lets the classifier compute what follows from its state, unless it is frozen."""
        if self.classifier.trainable and self.classifier.built:
            self.classifier.refresh()

    def fit(self, x=None, *args, **kwargs):
        """As `keras.Model.fit`; where the classifier keeps a bank, samples in arrays get
        their places in them as their rows.

        Raises:
            ValueError: If there are more samples in arrays than rows in the bank, or an
                index past it.
            NotFiniteError: As `ExactModel.fit`.
        """
        x = self._with_index(x)
        self.check_inputs(x)
        if self.classifier.needs_index and isinstance(x, dict):
            self.classifier.check_index(x.get(INDEX, ()))
        self._fitting = True
        try:
            with self._forgetting():
                return super().fit(x, *args, **kwargs)
        finally:
            self._fitting = False

    def own_callbacks(self):
        return [*super().own_callbacks(), Refresh()]

    def _with_index(self, x):
        """Samples in arrays with their places as their rows, where there is a bank."""
        is_named = isinstance(x, dict) and not {ONLY, INDEX} & set(x)
        wanted = self.classifier.needs_index and (is_named or not isinstance(x, dict))
        if not wanted or not is_arrays(x):
            return x
        number, rows = len(keras.tree.flatten(x)[0]), self.classifier.bank_size
        if number > rows:
            raise ValueError(
                "`bank_size` must be the number of training samples or more. Received: "
                f"bank_size={rows} with {number} samples"
            )
        return {**(x if is_named else {ONLY: x}), INDEX: np.arange(number, dtype="int32")}

    def train_on_batch(self, *args, **kwargs):
        """As `keras.Model.train_on_batch`; raises what `fit` raises."""
        with self._forgetting():
            return super().train_on_batch(*args, **kwargs)

    def set_weights(self, weights):
        """As in Keras, but if one of them does not fit, none is set."""
        with self._replacing_weights():
            super().set_weights(weights)

    def load_weights(self, *args, **kwargs):
        """As in Keras, but if one of them does not fit, none is loaded."""
        with self._replacing_weights():
            super().load_weights(*args, **kwargs)

    def forget_judgement(self):
        """Called where weights or the classifier's state have changed."""
        for name in self.judgements:
            setattr(self, name, None)

    @contextlib.contextmanager
    def _forgetting(self):
        """Training, after which no judgement holds unless an error came before a step."""
        before = {name: getattr(self, name) for name in self.judgements}
        steps = self._steps_taken()
        self.forget_judgement()  # first: callbacks may save the model
        try:
            yield
        except BaseException:
            if self._steps_taken() == steps:
                for name, judgement in before.items():
                    setattr(self, name, judgement)
            raise

    def _steps_taken(self):
        """Those of the optimizer, of which a faulty step is none; None without one."""
        if self.optimizer is None:
            return None
        return int(ops.convert_to_numpy(self.optimizer.iterations))

    @contextlib.contextmanager
    def _replacing_weights(self):
        before = [(variable, ops.convert_to_numpy(variable)) for variable in self.weights]
        try:
            yield
        except BaseException:
            for variable, value in before:
                variable.assign(value)
            raise
        self.forget_judgement()

    def evaluate(self, x=None, *args, **kwargs):
        """As `keras.Model.evaluate`; for methods where a class can be without a sample,
        `unseen` counts the evaluated samples of such classes: none of them can be right.
        """
        self.check_inputs(x)
        if self._fitting:  # validation comes before the callbacks
            self.refresh()
        self._evaluating = True
        try:
            return super().evaluate(x, *args, **kwargs)
        finally:
            self._evaluating = False

    def predict(self, x, *args, **kwargs):
        """As `keras.Model.predict`: logits, `(samples, ..., num_classes)`."""
        self.check_inputs(x)
        return super().predict(x, *args, **kwargs)

    def embed(self, x, batch_size=None, verbose="auto", steps=None):
        """Features of samples, as the classifier gets them.

        Args:
            x, batch_size, verbose, steps: As in `keras.Model.predict`; datasets may also
                give labels.

        Returns:
            NumPy array, `(samples, ..., d)`: of images, or of the pixels of feature maps.
        """
        refuse_empty(x)
        x = self.built_for(x)
        self.check_inputs(x)
        return self._predict_features(
            x,
            batch_size=batch_size,
            verbose=verbose,
            steps=steps,
            callbacks=[RefuseEmpty()],
        )

    def built_for(self, x):
        """Samples, for which the model is built from here on."""
        return x

    @property
    def num_classes(self):
        return self.classifier.num_classes

    @property
    def metrics(self):
        others = [self._unseen, *self.classifier.evaluation_metrics]
        metrics = [m for m in super().metrics if all(m is not other for other in others)]
        if self._evaluating:
            metrics += self.classifier.evaluation_metrics
            if self.classifier.tracks_seen:
                metrics.append(self._unseen)
        return metrics
