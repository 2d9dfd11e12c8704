# SPDX-License-Identifier: Apache-2.0
"""Models whose logits come from a classifier: how a step moves it, and what it reports."""

import keras
import numpy as np

from deepncm_tf.models.embedding import unpack_inputs
from deepncm_tf.models.exact_model import ExactModel
from deepncm_tf.models.losses import LogitCrossEntropy, expects_probabilities


class Refresh(keras.callbacks.Callback):
    """Lets the classifier of a model compute what follows from its state, each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.refresh()


class ClassifierModel(ExactModel):
    """An `ExactModel` with a classifier.

    A subclass makes the attribute `classifier`, calls `track_unseen` after it, and has
    `check_images` besides the hooks of `ExactStep` that are not here.
    """

    def track_unseen(self):
        """Makes the metric `unseen`, which evaluations report."""
        self._unseen = keras.metrics.Sum(name="unseen")
        self._evaluating = False
        self._fitting = False

    def check_images(self, x):
        """Raises a `ValueError` where images in an array have another shape."""
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
        loss = LogitCrossEntropy() if loss is None else keras.losses.get(loss)
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

    def update_state(self, x, y, outputs, sample_weight, apply):
        _, index = unpack_inputs(x)
        logits, features, *_ = outputs
        apply = apply & self.classifier.trainable
        self.classifier.update(
            features, y, index, sample_weight, apply=apply, logits=logits
        )

    def update_evaluation(self, y, outputs, sample_weight):
        features = outputs[1]
        self.classifier.update_metrics(features, y, sample_weight)
        if self.classifier.seen() is not None:
            counted = None if sample_weight is None else sample_weight > 0
            unseen = self.classifier.count_unseen(features, y, counted)
            self._unseen.update_state(unseen)

    def refresh(self):
        """Lets the classifier compute what follows from its state, unless it is frozen."""
        if self.classifier.trainable and self.classifier.built:
            self.classifier.refresh()

    def fit(self, x=None, *args, callbacks=None, **kwargs):
        """As `keras.Model.fit`; where the classifier keeps a bank, images in an array get
        their places in it as their rows.

        Raises:
            ValueError: If there are more images in an array than rows in the bank, or an
                index past it.
            NotFiniteError: As `ExactModel.fit`.
        """
        if self.classifier.needs_index and hasattr(x, "shape"):
            if len(x) > self.classifier.bank_size:
                raise ValueError(
                    "`bank_size` must be the number of training images or more. Received: "
                    f"bank_size={self.classifier.bank_size} with {len(x)} images"
                )
            x = {"image": x, "index": np.arange(len(x), dtype="int32")}
        self.check_images(x)
        if self.classifier.needs_index and isinstance(x, dict):
            self.classifier.check_index(x.get("index", ()))
        self.forget_judgement()
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = [Refresh(), *keras.tree.flatten(callbacks or [])]
        self._fitting = True
        try:
            return super().fit(x, *args, callbacks=callbacks, **kwargs)
        finally:
            self._fitting = False

    def forget_judgement(self):
        """Called where `fit` or `adapt` changes the classifier's state; for subclasses."""

    def evaluate(self, x=None, *args, **kwargs):
        """As `keras.Model.evaluate`; for methods where a class can be without a sample,
        `unseen` counts the evaluated samples of such classes: none of them can be right.
        """
        self.check_images(x)
        if self._fitting:  # validation comes before the callbacks
            self.refresh()
        self._evaluating = True
        try:
            return super().evaluate(x, *args, **kwargs)
        finally:
            self._evaluating = False

    @property
    def num_classes(self):
        return self.classifier.num_classes

    @property
    def metrics(self):
        others = [self._unseen, *self.classifier.evaluation_metrics]
        metrics = [m for m in super().metrics if all(m is not other for other in others)]
        if self._evaluating:
            metrics += self.classifier.evaluation_metrics
            if self.classifier.seen() is not None:
                metrics.append(self._unseen)
        return metrics
