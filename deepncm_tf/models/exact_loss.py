# SPDX-License-Identifier: Apache-2.0
"""The loss of a batch as the sum of shares: of replicas, and of parts of a batch."""

from keras import ops

from deepncm_tf.distribution import replicas
from deepncm_tf.models.backend_step import BackendStep
from deepncm_tf.models.losses import ignored_in_mean
from deepncm_tf.numerics import labels
from deepncm_tf.numerics.precision import sum_dtype


class ExactLoss(BackendStep):
    """What a step minimizes.

    A subclass has the attributes `l2` and `accumulate_steps`.
    """

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
        loss = self.share_of_mean(self._mean_of_all(loss, y), y_pred, samples)
        extra = list(self.losses)
        if self.l2 and (decayed := self.decayed_variables()):
            squares = [ops.sum(ops.square(v)) for v in decayed]
            extra.append(0.5 * self.l2 * sum(squares))
        divisor = replicas.num_replicas()
        divisor *= 1 if samples is None else self.accumulate_steps
        return loss + sum(ops.cast(ops.sum(t), loss.dtype) / divisor for t in extra)

    def share_of_mean(self, loss, y_pred, samples=None):
        """Of a Keras loss's mean over its samples, its share of that of the global batch.

        Args:
            loss: Scalar, what a `keras.losses.Loss` gives.
            y_pred: What it was given, `(batch, ...)`.
            samples: As in `compute_loss`.
        """
        num_replicas = replicas.num_replicas()
        num_parts = 1 if samples is None else self.accumulate_steps
        if num_replicas == num_parts == 1:
            return loss
        # Keras divides by the number of replicas, as if each had the same number of
        # samples; a last partial batch, or none, must weigh by its size.
        count, whole = samples or (ops.shape(y_pred)[0],) * 2
        (total,) = replicas.all_reduce_sum([ops.cast(whole, loss.dtype)])
        count = ops.cast(count, loss.dtype)
        scale = count / total / ops.cast(1.0 / num_replicas, loss.dtype)  # Keras's divisor
        return loss * scale

    def _mean_of_all(self, loss, y):
        """A loss as the mean over all labels, those that its own mean leaves out included.

        Only so do shares weigh by their numbers of samples.
        """
        ignored = ignored_in_mean(self.loss)
        if ignored is None:
            return loss
        counted = ops.cast(y != ignored, sum_dtype())
        share = ops.sum(counted) / ops.maximum(ops.sum(ops.ones_like(counted)), 1.0)
        return loss * ops.cast(share, loss.dtype)

    def decayed_variables(self):
        """The variables whose squares `l2` adds to the loss."""
        return self.trainable_variables
