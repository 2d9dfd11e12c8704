# SPDX-License-Identifier: Apache-2.0
"""Training that is the same on one device and on many, and stops at what is not finite."""

import keras
from keras import ops

from deepncm_tf.distribution import replicas
from deepncm_tf.models.finite import FiniteGuard, LookForFinite
from deepncm_tf.numerics import labels
from deepncm_tf.utils.arguments import as_positive_integer, is_number


class ExactModel(keras.Model):
    """A Keras model that trains on replicas as it would on one device.

    Loss and gradients are those of the global batch, also where replicas get unequal
    shares of it; gradients are clipped after their sum over the replicas. A step that is
    not finite changes nothing and ends `fit` with a `NotFiniteError`.

    Args:
        gradient_clip: Float > 0, limit of each gradient component, without loss scale;
            or None.
        l2: Float >= 0, adds 1/2 * l2 * (sum of squares of all trainable variables) to
            the loss.
        accumulate_steps: Int >= 1, parts into which a replica's share of a batch is split,
            to be computed one after the other.
        **kwargs: Those of `keras.Model`.
    """

    def __init__(self, gradient_clip=None, l2=0.0, accumulate_steps=1, **kwargs):
        super().__init__(**kwargs)
        if gradient_clip is not None and not _is_number(gradient_clip, above=0):
            raise ValueError(
                "`gradient_clip` must be a positive number or None. "
                f"Received: gradient_clip={gradient_clip!r}"
            )
        if not (_is_number(l2, above=0) or l2 == 0):
            raise ValueError(f"`l2` must be a number >= 0. Received: l2={l2!r}")
        self.gradient_clip = None if gradient_clip is None else float(gradient_clip)
        self.l2 = float(l2)
        self.accumulate_steps = as_positive_integer("accumulate_steps", accumulate_steps)
        self.guard = None

    def compile(self, optimizer="rmsprop", loss=None, **kwargs):
        reduction = getattr(loss, "reduction", "sum_over_batch_size")
        in_parts = replicas.num_replicas() > 1 or self.accumulate_steps > 1
        if in_parts and reduction != "sum_over_batch_size":
            raise ValueError(
                "`loss` must have reduction='sum_over_batch_size' where there is more "
                "than one replica, or `accumulate_steps` is above 1. "
                f"Received: reduction={reduction!r}"
            )
        super().compile(optimizer=optimizer, loss=loss, **kwargs)
        if keras.backend.backend() == "tensorflow":
            self.guard = FiniteGuard(self.num_classes)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def fit(self, x=None, y=None, *args, callbacks=None, **kwargs):
        """As `keras.Model.fit`.

        Raises:
            NotFiniteError: If images, features, loss or gradients of a step are NaN or
                infinite. The model is as it was before that step.
            ValueError: If there is no sample, a label is of no class, or a sample weight
                is negative or not finite.
        """
        _refuse_other_backends()
        _refuse_empty(x)
        labels.refuse_names(y, "y")
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = [LookForFinite(), *keras.tree.flatten(callbacks or [])]
        return super().fit(x, y, *args, callbacks=callbacks, **kwargs)

    def train_on_batch(self, *args, **kwargs):
        """As `keras.Model.train_on_batch`; raises what `fit` raises."""
        _refuse_other_backends()
        logs = super().train_on_batch(*args, **kwargs)
        self.guard.look()
        return logs

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """As `keras.Model.evaluate`.

        Raises:
            ValueError: If there is no sample, or labels or sample weights are none.
        """
        _refuse_other_backends()
        _refuse_empty(x)
        labels.refuse_names(y, "y")
        figures = super().evaluate(x, y, *args, **kwargs)
        self.guard.look()
        return figures

    def test_on_batch(self, *args, **kwargs):
        """As `keras.Model.test_on_batch`; raises what `evaluate` raises."""
        _refuse_other_backends()
        figures = super().test_on_batch(*args, **kwargs)
        self.guard.look()
        return figures

    def predict(self, x, *args, **kwargs):
        _refuse_empty(x)
        return super().predict(x, *args, **kwargs)

    def build_training(self, x, y):
        """Creates the variables of optimizer and metrics before the first step.

        Args:
            x, y: `keras.KerasTensor`s of a batch's images and labels.
        """
        self._symbolic_build(data_batch=(x, y))

    def compute_loss(
        self,
        x=None,
        y=None,
        y_pred=None,
        sample_weight=None,
        training=True,
        samples=None,
    ):
        """This replica's share of the global batch's loss: the shares add up to it.

        Args:
            x, y, y_pred, sample_weight, training: As in Keras.
            samples: Where these are a part of the replica's share, the numbers of samples
                of the part and of the share, two scalar integers; or None.
        """
        if y is None:
            raise ValueError("`y`, the labels, must be given. Received: y=None")
        num_classes, rank = y_pred.shape[-1], len(y_pred.shape)
        y = labels.normalize(y, num_classes, rank, name="y")
        sample_weight = labels.normalize_weights(sample_weight, y.shape[: rank - 1])
        if sample_weight is not None:
            # Weights of images are weights of all their pixels.
            while len(sample_weight.shape) < len(y_pred.shape) - 1:
                sample_weight = ops.expand_dims(sample_weight, axis=-1)
        loss = self._compile_loss(y, y_pred, sample_weight)
        num_replicas = replicas.num_replicas()
        num_parts = 1 if samples is None else self.accumulate_steps
        if num_replicas > 1 or num_parts > 1:
            # Keras divides by the number of replicas, as if each had the same number of
            # samples; a last partial batch, or none, must weigh by its size.
            count, whole = samples or (ops.shape(y_pred)[0],) * 2
            (total,) = replicas.all_reduce_sum([ops.cast(whole, loss.dtype)])
            count = ops.cast(count, loss.dtype)
            loss *= count / total / ops.cast(1.0 / num_replicas, loss.dtype)  # its divisor
        extra = list(self.losses)
        if self.l2 and self.trainable_variables:
            squares = [ops.sum(ops.square(v)) for v in self.trainable_variables]
            extra.append(0.5 * self.l2 * sum(squares))
        divisor = num_replicas * num_parts
        return loss + sum(ops.cast(ops.sum(t), loss.dtype) / divisor for t in extra)

    def local_gradients(self, tape, loss):
        """Gradients of this replica's share of the loss, dense, zero where there is none.

        Args:
            tape: `tf.GradientTape` that has recorded `loss`.
            loss: Scalar tensor, as from the optimizer's `scale_loss`.
        """
        import tensorflow as tf

        gradients = tape.gradient(loss, self.trainable_variables)
        return [
            ops.zeros_like(v) if g is None else tf.convert_to_tensor(g)
            for g, v in zip(gradients, self.trainable_variables, strict=True)
        ]

    def apply_gradients(self, gradients):
        """Clips the gradients of the global batch and applies them once.

        Returns:
            Scalar bool tensor: whether the optimizer takes the step, which under loss
            scaling it does not where there is an overflow.
        """
        optimizer, num_replicas = self.optimizer, replicas.num_replicas()
        inner = optimizer.inner_optimizer if self.scales_loss else optimizer
        if num_replicas > 1 and (
            inner.clipvalue or inner.clipnorm or inner.global_clipnorm
        ):
            raise ValueError(
                "The optimizer would clip each replica's gradients before their sum. "
                "Use DeepNCM(gradient_clip=...) instead of the optimizer's `clipvalue`, "
                "`clipnorm` or `global_clipnorm`."
            )
        finite = ops.all(ops.stack([ops.all(ops.isfinite(g)) for g in gradients or [0.0]]))
        if self.gradient_clip is not None:
            limit = self.gradient_clip * (
                optimizer.dynamic_scale if self.scales_loss else 1
            )
            # Clipping would hide an overflow from the loss scale: let it through.
            gradients = [
                ops.where(finite, ops.clip(g, -limit, limit), g) for g in gradients
            ]
        # `apply` sums over the replicas once more.
        gradients = [gradient / num_replicas for gradient in gradients]
        optimizer.apply(gradients, self.trainable_variables)
        return finite if self.scales_loss else ops.convert_to_tensor(True)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        y = labels.normalize(y, y_pred.shape[-1], len(y_pred.shape), name="y")
        return super().compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def targets(self, y, sample_weight, rank):
        """Labels and sample weights in one form, and what is wrong with them.

        Args:
            y, sample_weight: As the user has given them.
            rank: Int, number of axes of the logits.

        Returns:
            `(y, sample_weight, wrong)`: labels and weights that can be computed with, also
            where they are wrong, and what `FiniteGuard.passes` wants to know of them.
        """
        if y is None:
            raise ValueError("`y`, the labels, must be given. Received: y=None")
        normalized = labels.normalize(y, self.num_classes, rank, name="y")
        weights = labels.normalize_weights(sample_weight, normalized.shape[: rank - 1])
        ignore_class = getattr(self.loss, "ignore_class", None)
        is_wrong, _ = wrong_labels = labels.find_wrong(
            y, self.num_classes, rank, ignore_class
        )
        normalized = ops.where(is_wrong, ops.zeros_like(normalized), normalized)
        wrong_weights = labels.find_wrong_weights(ops.ones(1))
        if weights is not None:
            is_wrong, _ = wrong_weights = labels.find_wrong_weights(weights)
            weights = ops.where(is_wrong, ops.zeros_like(weights), weights)
        wrong = {"labels": wrong_labels, "sample weights": wrong_weights}
        return normalized, weights, wrong

    @property
    def scales_loss(self):
        return isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Builds what is not built yet from the shapes of one replica's share of a batch.

        Keras takes the mean of the shares, which fails where they are unequal, and takes
        it in every `evaluate`, which fails where the iterator has come to its end.
        """
        if self._distribute_strategy is None:
            return
        parts = (self, self._compile_metrics, self._compile_loss, self.optimizer)
        if all(part is None or part.built for part in parts):
            return
        if iterator is not None:
            for _, _, batches in iterator:
                data_batch = keras.tree.map_structure(
                    lambda x: self.distribute_strategy.experimental_local_results(x)[0],
                    next(batches),
                )
                break
        super()._maybe_symbolic_build(data_batch=data_batch)


def _refuse_other_backends():
    if keras.backend.backend() != "tensorflow":
        raise NotImplementedError(
            "DeepNCM trains and evaluates on Keras's TensorFlow backend; its classifiers, "
            "`predict` and `embed` work on any. Received: KERAS_BACKEND="
            f"{keras.backend.backend()!r}"
        )


def _refuse_empty(x):
    """Raises a `ValueError` for arrays or datasets that are known to be empty."""
    if callable(getattr(x, "cardinality", None)):
        empty = int(x.cardinality()) == 0
    else:
        first = next(iter(keras.tree.flatten(x)), None)
        empty = getattr(first, "shape", None) is not None and 0 in tuple(first.shape)[:1]
    if empty:
        raise ValueError("`x` must hold at least one sample. Received: none")


def _is_number(value, above):
    return is_number(value) and above < value < float("inf")
