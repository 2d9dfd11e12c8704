# SPDX-License-Identifier: Apache-2.0
"""Training on two devices of JAX, beside training on one, by Keras's DataParallel.

Run as a program with `KERAS_BACKEND=jax JAX_ENABLE_X64=1` and the XLA flag for two devices.
"""

import backend_steps as steps
import keras
import numpy as np

VARIANTS = ("decay", "dnc", "nca")


def fit(variant, devices):
    """Weights after two epochs whose batches are spread over devices."""
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    keras.utils.set_random_seed(0)
    model = steps.make_model(variant)
    images, labels, _ = steps.samples()
    images, labels = images[:40], labels[:40]
    fitted = model.fit(images, labels, batch_size=8, epochs=2, shuffle=False, verbose=0)
    kernel = model.backbone.layers[0].kernel.value
    assert len(kernel.sharding.device_set) == len(devices)
    return [*model.get_weights(), *map(np.array, fitted.history.values())]


if __name__ == "__main__":
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    two = keras.distribution.list_devices()
    assert len(two) == 2, two
    for variant in VARIANTS:
        for a, b in zip(fit(variant, two), fit(variant, two[:1]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9, err_msg=variant)
