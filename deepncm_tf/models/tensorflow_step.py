# SPDX-License-Identifier: Apache-2.0
"""A step on the TensorFlow backend; see `backend_step`."""

import keras
from keras import ops


class TensorFlowStep(keras.Model):
    """Steps in a graph, with variables that it changes in place."""

    def train_step(self, data):
        return self.exact_train_step(data)

    def test_step(self, data):
        return self.exact_test_step(data)

    def predict_step(self, data):
        return self.exact_predict_step(data)

    def exact_predict_step(self, data):
        return super().predict_step(data)

    def gradients(self, compute):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss, outputs = compute()
        gradients = tape.gradient(loss, self.trainable_variables)
        gradients = [
            ops.zeros_like(v) if g is None else tf.convert_to_tensor(g)
            for g, v in zip(gradients, self.trainable_variables, strict=True)
        ]
        return gradients, outputs

    def apply_once(self, gradients):
        self.optimizer.apply(gradients, self.trainable_variables)

    def take_state(self):
        """Variables have their values after each step."""
