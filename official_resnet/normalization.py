# SPDX-License-Identifier: Apache-2.0
"""Batch normalization on TensorFlow's fused kernel."""

import keras
from keras import ops

FUSED_DTYPES = ("float16", "bfloat16", "float32")


@keras.saving.register_keras_serializable(package="official_resnet")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's `BatchNormalization`, computed by one fused kernel where there is one.

    The variables, the arguments and the results (to rounding) are those of
    `keras.layers.BatchNormalization`. The fused kernel (`fused=True` of the official
    ResNet) serves images of shape `(batch, height, width, channels)` on the TensorFlow
    backend. Everything else falls back to Keras's own implementation: other ranks and
    axes, float64, masks, renormalization, other backends, and synchronized statistics
    while there is more than one replica.

    The kernel reports the batch variance with Bessel's factor N/(N-1), N the number of
    values per channel; the moving variance takes the plain one, as Keras does. A batch
    of one value has variance 0; a batch of none leaves the moving statistics as they are.

    Args:
        *args, **kwargs: Those of `keras.layers.BatchNormalization`.

    Reference:
        - [Ioffe and Szegedy, 2015](https://arxiv.org/abs/1502.03167)
    """

    def call(self, inputs, training=None, mask=None):
        if not self._can_fuse(inputs, mask):
            return super().call(inputs, training=training, mask=mask)
        outputs = self._fused(inputs, training=bool(training and self.trainable))
        return ops.cast(outputs, self.compute_dtype)

    def _can_fuse(self, inputs, mask):
        return (
            keras.backend.backend() == "tensorflow"
            and mask is None
            and not getattr(self, "renorm", False)  # which older Keras does not have
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and keras.backend.standardize_dtype(inputs.dtype) in FUSED_DTYPES
            and keras.backend.standardize_dtype(self.moving_mean.dtype) == "float32"
            and not (self.synchronized and _num_replicas() > 1)
        )

    def _fused(self, inputs, training):
        import tensorflow as tf

        channels = inputs.shape[-1]
        gamma = ops.convert_to_tensor(self.gamma) if self.scale else ops.ones((channels,))
        beta = ops.convert_to_tensor(self.beta) if self.center else ops.zeros((channels,))
        mean = ops.convert_to_tensor(self.moving_mean)
        variance = ops.convert_to_tensor(self.moving_variance)
        outputs, batch_mean, batch_variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=gamma,
            offset=beta,
            mean=mean[:0] if training else mean,  # in training the kernel wants none
            variance=variance[:0] if training else variance,
            epsilon=self.epsilon,
            is_training=training,
        )
        if training:
            count = tf.cast(tf.size(inputs) // channels, "float32")
            batch_variance *= (count - 1.0) / tf.maximum(count, 1.0)
            batch_variance = tf.where(count > 1.0, batch_variance, 0.0)
            self.moving_mean.assign(self._moved(mean, batch_mean, count))
            self.moving_variance.assign(self._moved(variance, batch_variance, count))
        return outputs

    def _moved(self, moving, batch, count):
        moved = moving * self.momentum + batch * (1.0 - self.momentum)
        return ops.where(count > 0, moved, moving)


def batch_normalization(momentum, epsilon, name=None):
    """A `BatchNormalization`, synchronized where it is made under several replicas."""
    several = keras.backend.backend() == "tensorflow" and _num_replicas() > 1
    return BatchNormalization(
        momentum=momentum, epsilon=epsilon, synchronized=several, name=name
    )


def _num_replicas():
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync
