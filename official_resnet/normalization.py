# SPDX-License-Identifier: Apache-2.0
"""Batch normalization on TensorFlow's fused kernel."""

import functools

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
    values per channel; the moving variance takes the plain one, as Keras does.

    One value per channel, as a single image has in a map of size 1x1, has no variance, and
    less its mean is 0 whatever it is. Other than in Keras, such a batch is normalized by
    the moving statistics and leaves them as they are; so does a batch of none. Only masks
    and renormalization take it as Keras does.

    Args:
        *args, **kwargs: Those of `keras.layers.BatchNormalization`.

    Reference:
        - [Ioffe and Szegedy, 2015](https://arxiv.org/abs/1502.03167)
    """

    def call(self, inputs, training=None, mask=None):
        is_trained = bool(training and self.trainable)
        is_plain = mask is None and not getattr(self, "renorm", False)  # not in older Keras
        if is_plain and self._can_fuse(inputs):
            outputs = self._fused(inputs, is_trained)
        elif is_plain and is_trained and self._has_one_place(inputs):
            outputs = self._of_one_place(inputs)
        else:
            return super().call(inputs, training=training, mask=mask)
        return ops.cast(outputs, self.compute_dtype)

    def _can_fuse(self, inputs):
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and keras.backend.standardize_dtype(inputs.dtype) in FUSED_DTYPES
            and keras.backend.standardize_dtype(self.moving_mean.dtype) == "float32"
            and not self._is_shared()
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
            if self._has_one_place(inputs):
                outputs = tf.where(count > 1.0, outputs, self._fused(inputs, False))
            self.moving_mean.assign(self._moved(mean, batch_mean, count))
            self.moving_variance.assign(self._moved(variance, batch_variance, count))
        return outputs

    def _has_one_place(self, inputs):
        """Whether a sample has one value per channel: only so can a batch have one."""
        _, *axes = self._reduction_axes
        return all(inputs.shape[axis] == 1 for axis in axes)

    def _of_one_place(self, inputs):
        """As Keras computes it, but where there is one value per channel."""
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        variables = self.moving_mean, self.moving_variance
        moving = [ops.cast(variable, x.dtype) for variable in variables]
        batch = self._moments(x, None)
        count = self._num_values(x)
        mean, variance = map(functools.partial(ops.where, count > 1), batch, moving)
        moved = [self._moved(*pair, count) for pair in zip(moving, batch, strict=True)]
        for variable, value in zip(variables, moved, strict=True):
            variable.assign(value)
        return ops.batch_normalization(
            x,
            mean,
            variance,
            self.axis,
            offset=ops.cast(self.beta, x.dtype) if self.center else None,
            scale=ops.cast(self.gamma, x.dtype) if self.scale else None,
            epsilon=self.epsilon,
        )

    def _num_values(self, x):
        """Values per channel of samples that have one: of all replicas where they share."""
        count = ops.shape(x)[self._reduction_axes[0]]
        if not self._is_shared():
            return count
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        return context.all_reduce("SUM", tf.cast(count, "float32")) if context else count

    def _is_shared(self):
        """Whether the statistics are those of several replicas."""
        is_tensorflow = keras.backend.backend() == "tensorflow"
        return is_tensorflow and self.synchronized and _num_replicas() > 1

    def _moved(self, moving, batch, count):
        moved = moving * self.momentum + batch * (1.0 - self.momentum)
        return ops.where(count > 1, moved, moving)


def batch_normalization(momentum, epsilon, name=None):
    """A `BatchNormalization`, synchronized where it is made under several replicas."""
    several = keras.backend.backend() == "tensorflow" and _num_replicas() > 1
    return BatchNormalization(
        momentum=momentum, epsilon=epsilon, synchronized=several, name=name
    )


def _num_replicas():
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync
