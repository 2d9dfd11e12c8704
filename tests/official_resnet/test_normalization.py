# SPDX-License-Identifier: Apache-2.0
"""The fused layer against Keras's own: outputs, gradients, moving statistics."""

import functools
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from deepncm_tf.distribution import strategies
from official_resnet import BatchNormalization

SHAPE = (5, 3, 2, 4)
EPSILONS = {"float32": 1e-5, "mixed_bfloat16": 2e-2, "mixed_float16": 2e-3}


def pair(shape=SHAPE[1:], **kwargs):
    layers = keras.layers.BatchNormalization(**kwargs), BatchNormalization(**kwargs)
    rng = np.random.default_rng(1)
    values = rng.uniform(0.5, 2, size=(4, 4))
    for layer in layers:
        layer.build((None, *shape))
        for variable, value in zip(layer.variables, values, strict=False):
            variable.assign(value)
    return layers


def outcome(layer, x, training):
    return *outputs_and_gradients(layer, tf.constant(x), training), *statistics(layer)


def outputs_and_gradients(layer, x, training):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training)
        loss = tf.reduce_sum(tf.sin(tf.cast(y, tf.float32)))
    gradients = tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])
    return y, *gradients


def statistics(layer):
    return [variable.numpy() for variable in layer.non_trainable_variables]


def assert_equal_layers(layers, x, training, tolerance):
    kept, fused = (outcome(layer, x, training) for layer in layers)
    assert len(kept) == len(fused)
    for expected, actual in zip(kept, fused, strict=True):
        np.testing.assert_allclose(
            np.asarray(actual, "float32"),
            np.asarray(expected, "float32"),
            rtol=tolerance,
            atol=tolerance,
        )


def images(shape=SHAPE):
    return np.random.default_rng(0).normal(1, 2, size=shape).astype("float32")


@pytest.fixture(autouse=True)
def fused_calls(monkeypatch):
    """Counts the calls of the kernel, so that no test passes by falling back."""
    calls = []
    kernel = tf.raw_ops.FusedBatchNormV3
    monkeypatch.setattr(
        tf.raw_ops, "FusedBatchNormV3", lambda **kw: calls.append(1) or kernel(**kw)
    )
    return calls


@pytest.mark.parametrize("policy", EPSILONS)
@pytest.mark.parametrize("training", [True, False])
def test_equal_to_keras(policy, training, fused_calls):
    layers = pair(momentum=0.9, epsilon=1e-5, dtype=policy)
    assert_equal_layers(layers, images(), training, EPSILONS[policy])
    assert fused_calls


@pytest.mark.parametrize("kwargs", [{"center": False}, {"scale": False}, {"axis": 3}])
def test_arguments(kwargs, fused_calls):
    layers = pair(momentum=0.5, **kwargs)
    assert_equal_layers(layers, images(), True, 1e-5)
    assert fused_calls


ONE_PLACE = [
    pytest.param({}, (1, 1, 4), id="fused"),
    pytest.param({"dtype": "float64"}, (1, 1, 4), id="float64"),
    pytest.param({"axis": 1}, (4, 1, 1), id="channels first"),
    pytest.param({}, (4,), id="rows"),
    pytest.param({"scale": False, "center": False}, (4,), id="neither scale nor center"),
]


@pytest.mark.parametrize("mode", ["eager", "graph", "jit"])
@pytest.mark.parametrize(("kwargs", "shape"), ONE_PLACE)
def test_one_value_per_channel_is_normalized_by_the_moving_statistics(kwargs, shape, mode):
    _, layer = pair(shape, momentum=0.5, **kwargs)
    x = tf.cast(images((1, *shape)), layer.compute_dtype)
    before, expected = statistics(layer), layer(x, training=False)
    of_batch = functools.partial(outputs_and_gradients, layer, training=True)
    if mode != "eager":  # where the batch's size is not known before
        signature = [tf.TensorSpec((None, *shape), x.dtype)]
        of_batch = tf.function(of_batch, signature, jit_compile=mode == "jit")
    y, *gradients = of_batch(x)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    assert all(np.abs(gradient).min() > 0 for gradient in gradients)
    np.testing.assert_array_equal(statistics(layer), before)


@pytest.mark.parametrize(("kwargs", "shape"), ONE_PLACE)
def test_several_samples_of_one_value_are_as_in_keras(kwargs, shape):
    x = images((3, *shape))
    layers = pair(shape, momentum=0.5, **kwargs)
    assert_equal_layers(layers, x.astype(layers[0].compute_dtype), True, 1e-5)


def test_no_value_keeps_the_statistics(fused_calls):
    _, layer = pair(momentum=0.5)
    before = statistics(layer)
    _, *gradients = outcome(layer, images((0, 3, 2, 4)), True)[:-2]
    np.testing.assert_array_equal(statistics(layer), before)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert fused_calls


def test_frozen_layer_is_in_inference_mode():
    layers = pair(momentum=0.5)
    for layer in layers:
        layer.trainable = False
    x = images()
    kept, fused = (layer(x, training=True) for layer in layers)
    np.testing.assert_allclose(fused, kept, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(layers[1].moving_mean, layers[0].moving_mean)


@pytest.mark.parametrize(
    ("kwargs", "shape"),
    [
        ({"axis": 1}, (5, 4, 2, 4)),
        ({"dtype": "float64"}, SHAPE),
        ({}, (5, 4)),
        ({"renorm": True}, SHAPE),
    ],
)
def test_falls_back(kwargs, shape, fused_calls):
    known = inspect.signature(keras.layers.BatchNormalization).parameters
    if not set(kwargs) - {"dtype"} <= set(known):
        pytest.skip(f"this Keras has no {kwargs}")
    kept = keras.layers.BatchNormalization(**kwargs)
    fused = BatchNormalization(**kwargs)
    x = images(shape)
    np.testing.assert_array_equal(fused(x, training=True), kept(x, training=True))
    assert not fused_calls


def test_falls_back_for_replicas(fused_calls):
    strategy = strategies.get_strategy("mirrored", 2)
    with strategy.scope():
        layer = BatchNormalization(momentum=0.0, synchronized=True)
        layer.build((None, 3, 2, 4))
    x = images((8, 3, 2, 4))
    shares = strategy.experimental_distribute_values_from_function(
        lambda context: x[context.replica_id_in_sync_group :: 2]
    )
    strategy.run(lambda share: layer(share, training=True), args=(shares,))
    np.testing.assert_allclose(
        layer.moving_mean.numpy(), x.mean(axis=(0, 1, 2)), rtol=1e-5, atol=1e-5
    )
    assert not fused_calls


def test_one_value_of_a_replica_counts_with_those_of_the_others():
    strategy = strategies.get_strategy("mirrored", 2)
    with strategy.scope():
        layer = BatchNormalization(momentum=0.0, synchronized=True)
        layer.build((None, 1, 1, 4))

    def outputs_of(*counts):
        x = iter(np.split(images((sum(counts), 1, 1, 4)), np.cumsum(counts[:-1])))
        shares = strategy.experimental_distribute_values_from_function(
            lambda context: next(x)
        )
        outputs = strategy.run(lambda share: layer(share, training=True), args=(shares,))
        return np.concatenate(strategy.experimental_local_results(outputs))

    expected = layer(images((1, 1, 1, 4)), training=False)
    np.testing.assert_allclose(outputs_of(1, 0), expected, rtol=1e-6)
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(4))
    np.testing.assert_allclose(outputs_of(1, 1).mean(axis=0), 0, atol=1e-6)
    x = images((2, 1, 1, 4))
    np.testing.assert_allclose(layer.moving_mean, x.mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, x.var(axis=(0, 1, 2)), rtol=1e-4)


def test_config_and_variables_are_those_of_keras():
    kept, fused = pair(momentum=0.9, name="norm")
    assert fused.get_config() == kept.get_config()
    assert [v.name for v in fused.variables] == [v.name for v in kept.variables]
    fused.set_weights(kept.get_weights())
    again = keras.layers.deserialize(keras.layers.serialize(fused))
    assert type(again) is BatchNormalization
