# SPDX-License-Identifier: Apache-2.0
"""The softmax baseline: one weight vector per class."""

import keras
from keras import initializers, ops

from deepncm_tf.classifiers.classifier import Classifier


@keras.saving.register_keras_serializable(package="deepncm_tf")
class Softmax(Classifier):
    """Linear classifier, the baseline of the nearest-mean methods.

    The logit of class c for feature x is w_c . x + b_c, with a trainable kernel and bias.
    It keeps no other state.

    Args:
        num_classes: Int, number of classes C.
        use_bias: Bool, whether to add b_c.
        kernel_initializer: Initializer of the kernel.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        features: `(batch, ..., d)`.
        training: Ignored.

    Output shape:
        `(batch, ..., num_classes)`.

    Example:
        >>> logits = Softmax(num_classes=10)(keras.ops.ones((2, 64)))
        >>> tuple(logits.shape)
        (2, 10)
    """

    def __init__(
        self, num_classes, use_bias=True, kernel_initializer="glorot_uniform", **kwargs
    ):
        super().__init__(num_classes, **kwargs)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)

    def build(self, features_shape):
        super().build(features_shape)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(features_shape[-1], self.num_classes),
            dtype=self.state_dtype,
            initializer=self.kernel_initializer,
            autocast=False,
        )
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.num_classes,),
                dtype=self.state_dtype,
                initializer="zeros",
                autocast=False,
            )

    def compute_logits(self, features, training=False):
        logits = ops.matmul(ops.cast(features, self.state_dtype), self.kernel)
        return logits + self.bias if self.use_bias else logits

    def get_config(self):
        return {
            **super().get_config(),
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
        }
