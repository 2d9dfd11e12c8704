# SPDX-License-Identifier: Apache-2.0
"""Neighborhood components: official steps, plain loops, finite differences, arguments."""

import re

import keras
import numpy as np
import pytest
from helpers import GOLDEN, random_images, small_backbone, to_numpy, value_and_gradient

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import NeighborhoodComponents
from deepncm_tf.models.losses import LogitCrossEntropy
from deepncm_tf.numerics import log_sums

tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="trains on TensorFlow"
)


def assert_close(actual, expected):
    np.testing.assert_allclose(to_numpy(actual), expected, rtol=1e-5, atol=2e-5)


@pytest.fixture(params=["steps", "margin"])
def golden(request):
    return dict(np.load(GOLDEN / f"nca_{request.param}.npz", allow_pickle=False))


def official(golden, step=0):
    labels = golden["labels"]
    temperature = float(golden["params"][0])
    nca = NeighborhoodComponents(
        int(labels.max()) + 1,
        len(labels),
        temperature=temperature,
        momentum=float(golden["momentum_used"][step]),
        margin=float(golden.get("margin", 0.0)) * temperature,
        bank_labels=labels,
    )
    nca.build((None, golden["x"].shape[-1]))
    nca.bank.assign(golden["bank_before"][step])
    return nca


def test_golden(golden):
    for t, (x, index) in enumerate(zip(golden["x"], golden["index"], strict=True)):
        nca, y = official(golden, t), golden["labels"][index]

        def loss(features, nca=nca, y=y, index=index):
            logits = nca(features, index=index, training=True)
            weights = nca.loss_weights(y, 2, index)
            return LogitCrossEntropy()(y, logits, sample_weight=weights)

        value, gradient = value_and_gradient(loss, x)
        assert_close(value, golden["loss"][t])
        assert_close(gradient, golden["grad_x"][t])
        nca.update(x, y, index=index)
        assert_close(nca.bank, golden["bank_after"][t])


def loop(x, rows, labels, num_classes, temperature, index):
    """Logits, and their gradient summed with weights 1, 2, ..., in float64."""
    x, rows = x.astype("float64"), rows.astype("float64")
    logits = np.full((len(x), num_classes), -np.inf)
    gradient = np.zeros_like(x)
    for i, sample in enumerate(x):
        for c in range(num_classes):
            mine = [j for j in range(len(rows)) if labels[j] == c and j != index[i]]
            if mine:
                s = rows[mine] @ sample / temperature
                logits[i, c] = np.logaddexp.reduce(s)
                p = np.exp(s - logits[i, c])
                gradient[i] += (i * num_classes + c + 1) * (p @ rows[mine]) / temperature
    return logits, gradient


@pytest.mark.parametrize("temperature", [1.0, 0.05, 1e-3])
@pytest.mark.parametrize("chunk", [1, 4, 7, 23, 100])
def test_chunks_are_a_plain_loop(temperature, chunk):
    rng = np.random.default_rng(0)
    rows, x = rng.normal(size=(23, 4)).astype("float32"), rng.normal(size=(5, 4))
    x = x.astype("float32")
    labels = rng.integers(-1, 3, 23).astype("int32")
    labels[labels == 2] = 1
    labels[3] = 2  # alone, and sample 1's own row
    index = np.array([0, 3, -1, 22, 7], "int32")
    expected, expected_gradient = loop(x, rows, labels, 4, temperature, index)
    weights = np.arange(1, 21).reshape(5, 4).astype("float32")

    def sums(features):
        return log_sums.class_log_sums(
            features,
            keras.ops.convert_to_tensor(rows),
            keras.ops.convert_to_tensor(labels),
            4,
            temperature,
            keras.ops.convert_to_tensor(index),
            chunk,
        )

    def total(features):
        found = sums(features)
        return keras.ops.sum(keras.ops.where(keras.ops.isfinite(found), found, 0) * weights)

    np.testing.assert_allclose(
        to_numpy(sums(keras.ops.convert_to_tensor(x))), expected, rtol=1e-5, atol=1e-5
    )
    assert np.isneginf(expected[:, 3]).all()
    assert np.isneginf(expected[1, 2])
    _, gradient = value_and_gradient(total, x)
    scale = np.abs(expected_gradient).max()
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-5 * scale)


def arrays_of(graph):
    """Numbers of elements of all arrays of a graph, those of its loops and branches too."""
    for operation in graph.get_operations():
        for output in operation.outputs:
            if output.shape.is_fully_defined():
                yield output.shape.num_elements()
        for name in ("body", "cond", "then_branch", "else_branch", "f"):
            if name in operation.node_def.attr:
                function = graph._get_function(operation.get_attr(name).name)
                yield from arrays_of(function.graph)


@pytest.mark.parametrize("batch", [8, 64])
def test_a_large_batch_has_few_similarities_alive(monkeypatch, batch):
    """Neither forward nor backward is there an array of batch x rows."""
    import tensorflow as tf

    monkeypatch.setattr(log_sums, "ALIVE", 8 * 500)
    rows, labels = tf.random.normal((500, 3)), tf.zeros(500, "int32")

    @tf.function
    def step(features):
        with tf.GradientTape() as tape:
            tape.watch(features)
            total = log_sums.class_log_sums(features, rows, labels, 2, 0.1)
        return tape.gradient(total, features)

    largest = max(arrays_of(step.get_concrete_function(tf.zeros((batch, 3))).graph))
    assert largest <= 8 * 500
    assert largest >= 8 * 500 * 0.9  # the similarities were seen


def test_finite_differences():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, 4))
    labels = rng.integers(3, size=12)
    nca = NeighborhoodComponents(
        3, 12, temperature=0.5, bank_labels=labels, dtype="float64"
    )
    if keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 by default")
    nca.build((None, 4))

    def loss(features):
        logits = nca(features, index=[0, 1, 2])
        return keras.ops.sum(LogitCrossEntropy(dtype="float64")(labels[:3], logits))

    _, gradient = value_and_gradient(loss, x)
    for i, j in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[i, j] = 1e-6
        up, down = (float(loss(keras.ops.convert_to_tensor(x + s))) for s in (step, -step))
        assert gradient[i, j] == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-8)


def test_probabilities_are_those_of_scikit_learn():
    """scikit-learn's p_ij has -||.||^2 in the exponent: 2 x.v on unit vectors, T = 0.5."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(10, 3))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype("float32")
    y = rng.integers(2, size=10)
    nca = NeighborhoodComponents(2, 10, temperature=0.5, bank_labels=y)
    nca.build((None, 3))
    nca.bank.assign(x)
    probabilities = to_numpy(keras.ops.softmax(nca(x, index=np.arange(10))))
    distances = ((x[:, None] - x[None]) ** 2).sum(-1).astype("float64")
    p = np.exp(-distances)
    np.fill_diagonal(p, 0)
    p /= p.sum(axis=1, keepdims=True)
    same = np.stack([p[:, y == c].sum(axis=1) for c in range(2)], axis=1)
    np.testing.assert_allclose(probabilities, same, rtol=1e-5)


def test_duplicates_in_a_batch_write_the_last():
    nca = NeighborhoodComponents(2, 4, momentum=0.0)
    x = np.eye(3, dtype="float32")[[0, 1, 2, 0]]
    weights = [1.0, 1.0, 1.0, 0.0]  # the last of row 2 takes no part
    nca.update(x, [0, 1, 1, 0], index=[2, 1, 2, 2], sample_weight=weights)
    np.testing.assert_allclose(to_numpy(nca.bank)[2], x[2])
    assert to_numpy(nca.bank_labels).tolist() == [-1, 1, 1, -1]


def test_rows_take_part_once_their_label_is_known():
    nca = NeighborhoodComponents(3, 5)
    x = np.eye(4, dtype="float32")
    nca.update(x[:2], [0, 1], index=[0, 3])
    assert to_numpy(nca.seen()).tolist() == [True, True, False]
    logits = to_numpy(nca(x[:1]))
    assert logits[0, 2] < logits[0, :2].min()
    assert to_numpy(nca.loss_weights([0, 1, 2], 2, [0, 4, 1])).tolist() == [0, 1, 0]
    assert to_numpy(nca.loss_weights([0, 1, 2], 2)).tolist() == [1, 1, 0]


@tensorflow_only
def test_a_step_can_be_compiled():
    import tensorflow as tf

    nca = NeighborhoodComponents(3, 50, bank_labels=np.arange(50) % 3)
    nca.build((None, 4))

    def step(features, index):
        with tf.GradientTape() as tape:
            tape.watch(features)
            weights = nca.loss_weights(index % 3, 2, index)
            loss = tf.reduce_sum(nca(features, index=index) * weights[:, None])
        return loss, tape.gradient(loss, features)

    features = tf.random.normal((6, 4), seed=0)
    plain = step(features, tf.range(6))
    compiled = tf.function(step, jit_compile=True)(features, tf.range(6))
    for one, other in zip(plain, compiled, strict=True):
        assert_close(one, to_numpy(other))


@tensorflow_only
def test_arrays_get_their_index_and_a_lone_sample_no_loss():
    images, labels = random_images(12, num_classes=3)
    labels[5] = 3
    nca = NeighborhoodComponents(4, 12, momentum=0.0)
    model = DeepNCM(small_backbone(), nca, normalize=True)
    model.compile("sgd")
    model.fit(images, labels, batch_size=5, epochs=2, verbose=0)
    np.testing.assert_array_equal(to_numpy(nca.bank_labels), labels)
    features = model.embed(images, verbose=0)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)

    alone = {"image": images[5:6], "index": np.array([5], "int32")}
    before = [to_numpy(v).copy() for v in model.trainable_variables]
    assert model.train_on_batch(alone, labels[5:6]) == pytest.approx(0)
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bank_size": 0}, "`bank_size` must be a positive integer"),
        ({"temperature": 0.0}, "`temperature` must be a positive number"),
        ({"momentum": 1.0}, "`momentum` must be a number in [0, 1)"),
        ({"margin": -1}, "`margin` must be a number >= 0"),
        ({"bank_labels": [0]}, "`bank_labels` must have a label for each of 4 rows"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        NeighborhoodComponents(2, **{"bank_size": 4, **arguments})


@pytest.mark.bad_input
def test_an_update_needs_the_index():
    nca = NeighborhoodComponents(2, 4)
    with pytest.raises(ValueError, match="`index`, the samples' rows in the bank, must be"):
        nca.update(np.eye(2, dtype="float32"), [0, 1])
