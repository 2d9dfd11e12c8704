# SPDX-License-Identifier: Apache-2.0
"""A batch in parts equals the whole of it, but for batch normalization."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import random_images, small_backbone
from methods import ARGUMENTS, NAMES, TABLE, others_are_thorough

from deepncm_tf import DeepNCM
from deepncm_tf.distribution import strategies

C, BATCH, N = 3, 8, 21  # batches of 8, 8 and 5


def train(accumulate_steps, classifier, num_replicas=1, weighted=False, n=N, **kwargs):
    """Weights and metrics of two epochs in float64, from the same start."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(5)
    cls, arguments = classifier
    images, labels = random_images(n, C)
    data = [{"image": images.astype("float64"), "index": np.arange(n)}, labels]
    if weighted:
        data.append(np.random.default_rng(1).integers(3, size=n) / 2.0)
    dataset = tf.data.Dataset.from_tensor_slices(tuple(data)).batch(BATCH)
    scope = contextlib.nullcontext()
    if num_replicas > 1:
        scope = strategies.get_strategy("mirrored", num_replicas).scope()
    with scope:
        model = DeepNCM(
            small_backbone(**kwargs),
            cls(C, **arguments),
            gradient_clip=0.05,
            l2=0.02,
            accumulate_steps=accumulate_steps,
        )
        model.compile(keras.optimizers.SGD(0.3, momentum=0.9), metrics=["accuracy"])
        history = model.fit(dataset, epochs=2, verbose=0, shuffle=False).history
    return [*model.get_weights(), *(np.array(v) for v in history.values())]


def assert_equal(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", others_are_thorough(NAMES, ["dnc"]))
def test_parts_equal_the_whole(name):
    classifier = NAMES[name], ARGUMENTS.get(name, {})
    whole = train(1, classifier)
    assert_equal(train(3, classifier), whole)  # parts of 2 and 3, then of 1 and 2


@pytest.mark.parametrize(
    ("parts", "kwargs"),
    [
        (3, {"weighted": True}),
        pytest.param(  # a last batch of 1: parts and a replica of none
            4, {"n": 9, "num_replicas": 2}, marks=pytest.mark.thorough
        ),
    ],
)
def test_uneven_parts(parts, kwargs):
    classifier = TABLE[-1]
    assert_equal(train(parts, classifier, **kwargs), train(1, classifier, **kwargs))


def test_batch_normalization_sees_the_parts():
    """The one thing that differs; a part without a sample leaves it finite."""
    whole = train(1, TABLE[1], n=9, normalize=True)
    parts = train(4, TABLE[1], n=9, normalize=True)
    assert all(np.isfinite(array).all() for array in parts)
    assert max(np.abs(a - b).max() for a, b in zip(whole, parts, strict=True)) > 1e-4


def test_parts_are_computed_one_after_the_other():
    """Each part of the batch waits for the gradients of the one before."""
    model = DeepNCM(small_backbone(), TABLE[0][0](C), accumulate_steps=2)
    model.compile("sgd")
    images, labels = random_images(4, C)
    step = tf.function(lambda x, y: model.train_step((x, y)), autograph=False)
    graph = step.get_concrete_function(
        tf.constant(images, "float32"), tf.constant(labels)
    ).graph
    slices = [op for op in graph.get_operations() if op.type == "StridedSlice"]
    waits_for = {
        before.name
        for op in slices
        for part in (op, *(tensor.op for tensor in op.inputs))
        for before in part.control_inputs
    }
    assert any(name.startswith("gradient_tape") for name in waits_for)


@pytest.mark.bad_input
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_bad_values(value):
    with pytest.raises(ValueError, match=r"accumulate_steps.*Received"):
        DeepNCM(small_backbone(), TABLE[0][0](C), accumulate_steps=value)
