# SPDX-License-Identifier: Apache-2.0
"""What several test modules share: arrays, gradients on either backend, a small model."""

import pathlib

import keras
import numpy as np

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
# Variables of a program on Keras's JAX backend. It compiles much that it runs once, so
# without optimization it takes less time.
ON_JAX = {
    "KERAS_BACKEND": "jax",
    "JAX_PLATFORMS": "cpu",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
}


def to_numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def value_and_gradient(function, x):
    """Value and gradient of a scalar function, on the TensorFlow or the JAX backend."""
    if keras.backend.backend() == "jax":
        import jax

        value, gradient = jax.value_and_grad(function)(keras.ops.convert_to_tensor(x))
    else:
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        gradient = tape.gradient(value, x)
    return to_numpy(value), to_numpy(gradient)


def class_sums(features, labels, num_classes, weights=None):
    """S_c and n_c of design 1 in a plain loop."""
    weights = np.ones(len(labels)) if weights is None else weights
    sums, counts = np.zeros((num_classes, features.shape[-1])), np.zeros(num_classes)
    for x, label, weight in zip(features, labels, weights, strict=True):
        sums[label] += weight * x
        counts[label] += weight
    return sums, counts


def small_backbone(shape=(4, 4, 3), dim=6, normalize=False):
    """Images to `(batch, dim)` features with few parameters."""
    layers = [keras.Input(shape, name="image")]
    if normalize:
        from deepncm_tf.distribution import replicas
        from official_resnet import BatchNormalization

        layers += [
            keras.layers.Conv2D(4, 3, padding="same"),
            BatchNormalization(momentum=0.9, synchronized=replicas.num_replicas() > 1),
            keras.layers.ReLU(),
        ]
    return keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(dim)])


def small_model(classifier=None, compile=True, **kwargs):
    """A DeepNCM of three classes with a `small_backbone`."""
    from deepncm_tf import DeepNCM
    from deepncm_tf.classifiers import OnlineMean

    model = DeepNCM(small_backbone(), classifier or OnlineMean(3), **kwargs)
    if compile:
        model.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    return model


def random_images(n, num_classes=3, shape=(4, 4, 3), seed=0):
    """Images whose class shows in their mean, and their integer labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=n)
    images = rng.normal(size=(n, *shape)) + labels[:, None, None, None]
    return images.astype("float32"), labels.astype("int32")
