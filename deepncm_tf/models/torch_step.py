# SPDX-License-Identifier: Apache-2.0
"""A step on the PyTorch backend; see `backend_step`."""

import keras
from keras import ops


class TorchStep(keras.Model):
    """Steps operation by operation, with variables that they change in place."""

    def train_step(self, data):
        import torch

        with torch.no_grad():  # but in `gradients`
            return self.exact_train_step(data)

    def test_step(self, data):
        import torch

        with torch.no_grad():
            return self.exact_test_step(data)

    def predict_step(self, data):
        import torch

        with torch.no_grad():
            return self.exact_predict_step(data)

    def exact_predict_step(self, data):
        return super().predict_step(data)

    def gradients(self, compute):
        import torch

        with torch.enable_grad():
            loss, outputs = compute()
        values = [variable.value for variable in self.trainable_variables]
        gradients = [None] * len(values)
        if loss.requires_grad and values:
            gradients = torch.autograd.grad(loss, values, allow_unused=True)
        gradients = [
            ops.zeros_like(v) if g is None else g
            for g, v in zip(gradients, values, strict=True)
        ]
        outputs = keras.tree.map_structure(ops.stop_gradient, outputs)
        return gradients, outputs

    def apply_once(self, gradients):
        self.optimizer.apply(gradients, self.trainable_variables)

    def take_state(self):
        """Variables have their values after each step."""
