# SPDX-License-Identifier: Apache-2.0
"""What a step needs of Keras's backend; everything else of it is the same on all.

`BackendStep` is the class of the backend in use. A subclass computes a batch in
`exact_train_step(data)` and `exact_test_step(data)`, which give logs, with variables as
they are everywhere in Keras; `exact_predict_step(data)` is what Keras predicts. It has from
here:

- `gradients(compute)`: those of the loss, where `compute()` gives `(loss, outputs)`. They
  are dense, one for each trainable variable, zero where the loss does not depend on it.
  Returns them and the outputs.
- `apply_once(gradients)`: a step of the optimizer.
- `take_state()`: gives variables their values, where a loop over steps keeps them apart.
"""

import keras

if keras.backend.backend() == "jax":
    from deepncm_tf.models.jax_step import JaxStep as BackendStep
elif keras.backend.backend() == "torch":
    from deepncm_tf.models.torch_step import TorchStep as BackendStep
else:
    from deepncm_tf.models.tensorflow_step import TensorFlowStep as BackendStep

__all__ = ["BackendStep"]
