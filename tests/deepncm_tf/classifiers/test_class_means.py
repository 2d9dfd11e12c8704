# SPDX-License-Identifier: Apache-2.0
"""The class means against plain loops: weights, soft labels, dense prediction, edges."""

import keras
import numpy as np
import pytest
from helpers import class_sums, to_numpy, value_and_gradient

from deepncm_tf.classifiers import DecayMean, MeanCondensation, OnlineMean
from deepncm_tf.classifiers.classifier import UNSEEN_LOGIT
from deepncm_tf.numerics.samples import Samples

C, D, STEPS, BATCH = 4, 3, 7, 6


def batches(seed=0, classes=C):
    rng = np.random.default_rng(seed)
    for _ in range(STEPS):
        yield (
            rng.normal(size=(BATCH, D)).astype("float32"),
            rng.integers(classes, size=BATCH),
            rng.choice([0.0, 0.5, 1.0, 2.0], size=BATCH).astype("float32"),
        )


def online(state, sums, counts, step):
    total, count = state["total"] + sums, state["count"] + counts
    return {"total": total, "count": count}


def condensation(state, sums, counts, step, condensation_steps=3):
    state = online(state, sums, counts, step)
    if step % condensation_steps == condensation_steps - 1:  # steps from 0: 2, 5, 8, ...
        for c in range(C):
            if state["count"][c] > 0:
                state["total"][c] /= state["count"][c]
                state["count"][c] = 1
    return state


def decay(state, sums, counts, step, alpha=0.75):
    total, count = state["total"].copy(), state["count"] + counts
    for c in range(C):
        if counts[c] > 0:
            total[c] = alpha * total[c] + (1 - alpha) * sums[c] / counts[c]
    return {"total": total, "count": count}


METHODS = {
    "online": (lambda: OnlineMean(C), online),
    "condensation": (lambda: MeanCondensation(C, condensation_steps=3), condensation),
    "decay": (lambda: DecayMean(C, decay=0.75), decay),
}


@pytest.fixture(params=METHODS)
def method(request):
    make, rule = METHODS[request.param]
    return make, rule


def loop_means(rule, state):
    if rule is decay:
        return state["total"]
    count = np.where(state["count"] > 0, state["count"], 1)
    return state["total"] / count[:, None]


@pytest.mark.parametrize("weighted", [False, True])
def test_equal_to_a_loop(method, weighted):
    make, rule = method
    classifier = make()
    state = {"total": np.zeros((C, D)), "count": np.zeros(C)}
    for step, (x, y, w) in enumerate(batches()):
        w = w if weighted else None
        means = loop_means(rule, state)
        expected = -((x[:, None] - means) ** 2).sum(axis=-1)
        logits = to_numpy(classifier(x, training=True))
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
        classifier.update(x, y, sample_weight=w)
        state = rule(state, *class_sums(x, y, C, w), step)
        np.testing.assert_allclose(
            to_numpy(classifier.means), loop_means(rule, state), rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(to_numpy(classifier.counts), state["count"], rtol=1e-6)


@pytest.mark.parametrize("form", ["one_hot", "column", "float"])
def test_forms_of_labels(method, form):
    make, _ = method
    expected, other = make(), make()
    forms = {
        "one_hot": lambda y: np.eye(C, dtype="float32")[y],
        "column": lambda y: y[:, None],
        "float": lambda y: y.astype("float32"),
    }
    for x, y, w in batches():
        expected.update(x, y, sample_weight=w)
        other.update(x, forms[form](y), sample_weight=w[:, None])
    np.testing.assert_array_equal(to_numpy(other.means), to_numpy(expected.means))


def test_soft_labels_count_by_their_share():
    classifier = OnlineMean(C)
    x = np.array([[2.0, 0, 0], [0, 4.0, 0]], "float32")
    y = np.array([[0.25, 0.75, 0, 0], [0, 1, 0, 0]], "float32")
    classifier.update(x, y, sample_weight=[2.0, 1.0])
    np.testing.assert_allclose(to_numpy(classifier.counts), [0.5, 2.5, 0, 0])
    np.testing.assert_allclose(to_numpy(classifier.total)[1], [3, 4, 0])


def test_dense_prediction_is_the_same_samples(method):
    make, _ = method
    flat, dense = make(), make()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 4, D)).astype("float32")
    y, w = rng.integers(C, size=(2, 3, 4)), np.array([1.0, 2.0], "float32")
    dense.update(x, y, sample_weight=w)
    flat.update(x.reshape(-1, D), y.ravel(), sample_weight=w.repeat(12))
    np.testing.assert_allclose(to_numpy(dense.means), to_numpy(flat.means), rtol=1e-6)
    logits = to_numpy(dense(x))
    assert logits.shape == (2, 3, 4, C)
    np.testing.assert_allclose(
        logits.reshape(-1, C), to_numpy(flat(x.reshape(-1, D))), rtol=1e-5
    )


def test_labels_outside_the_classes_take_no_part(method):
    make, _ = method
    some, none = make(), make()
    x = np.ones((3, D), "float32")
    some.update(x, [1, -1, C])
    none.update(x[:1], [1])
    np.testing.assert_array_equal(to_numpy(some.means), to_numpy(none.means))
    np.testing.assert_array_equal(to_numpy(some.counts), [0, 1, 0, 0])


def test_order_of_the_batch_does_not_matter(method):
    make, _ = method
    one, other = make(), make()
    for x, y, w in batches():
        order = np.random.default_rng(1).permutation(BATCH)
        one.update(x, y, sample_weight=w)
        other.update(x[order], y[order], sample_weight=w[order])
    np.testing.assert_allclose(
        to_numpy(one.means), to_numpy(other.means), rtol=1e-5, atol=1e-6
    )


def test_a_class_without_a_sample(method):
    make, _ = method
    classifier = make()
    for x, y, _ in batches(classes=C - 1):
        classifier.update(x, y)
    training, inference = classifier(x, training=True), classifier(x)
    norms = (x**2).sum(axis=-1)
    np.testing.assert_allclose(to_numpy(training)[:, -1], -norms, rtol=1e-5)
    np.testing.assert_array_equal(to_numpy(inference)[:, -1], UNSEEN_LOGIT)
    np.testing.assert_array_equal(to_numpy(classifier.seen()), [True] * 3 + [False])
    np.testing.assert_array_equal(to_numpy(training)[:, :-1], to_numpy(inference)[:, :-1])


@pytest.mark.parametrize("scale", [1e5, 1e15, 1e20])
def test_far_features_are_finite_and_never_of_an_unseen_class(method, scale):
    make, _ = method
    classifier = make()
    for x, y, _ in batches(classes=C - 1):
        classifier.update(x, y)
    x = np.float32(scale) * np.float32([[1, 2, 3], [-1, 0, 0]])
    for training in (False, True):
        assert np.isfinite(to_numpy(classifier(x, training=training))).all()
    logits = to_numpy(classifier(x))
    assert (logits[:, -1] < logits[:, :-1].min(axis=-1)).all()
    classifier.update(x, [0, 1])
    assert np.isfinite(to_numpy(classifier(x))).all()


def test_where_false_keeps_the_state(method):
    make, _ = method
    classifier = make()
    for x, y, _ in batches():
        classifier.update(x, y)
    before = [to_numpy(v) for v in classifier.variables]
    classifier.update(x * np.nan, y, apply=keras.ops.convert_to_tensor(False))
    for value, variable in zip(before, classifier.variables, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)
    classifier.update(x, y, apply=keras.ops.convert_to_tensor(True))
    assert any(
        (to_numpy(variable) != value).any()
        for value, variable in zip(before, classifier.variables, strict=True)
    )


def test_an_empty_batch_changes_nothing_but_the_step(method):
    make, _ = method
    classifier = make()
    (x, y, _), *_ = batches()
    classifier.update(x, y)
    means, counts = to_numpy(classifier.means), to_numpy(classifier.counts)
    classifier.update(x[:0], y[:0])
    np.testing.assert_array_equal(to_numpy(classifier.means), means)
    np.testing.assert_array_equal(to_numpy(classifier.counts), counts)


def test_gradient_by_finite_differences(method):
    make, _ = method
    classifier = make()
    for x, y, _ in batches():
        classifier.update(x, y)

    def loss(features):
        probabilities = keras.ops.log_softmax(classifier(features, training=True))
        return -keras.ops.sum(probabilities[:, 0])

    _, gradient = value_and_gradient(loss, x)
    step = 1e-2
    for i, j in np.ndindex(x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[i, j] += step
        behind[i, j] -= step
        slope = (float(loss(ahead)) - float(loss(behind))) / (2 * step)
        np.testing.assert_allclose(gradient[i, j], slope, rtol=2e-2, atol=2e-3)


def test_no_gradient_flows_through_the_state(method):
    make, _ = method

    def mean_sum(features):
        classifier = make()
        classifier.update(features, np.zeros(2, "int32"))
        samples = Samples(features, np.zeros(2, "int32"), classifier.num_classes)
        return keras.ops.sum(classifier.class_sums(samples)[0])

    if keras.backend.backend() == "jax":
        pytest.skip("JAX variables cannot hold values under differentiation")
    import tensorflow as tf

    x = tf.ones((2, D))
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = mean_sum(x)
    assert tape.gradient(value, x) is None


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "received"),
    [
        (lambda: OnlineMean(0), "num_classes=0"),
        (lambda: OnlineMean("ten"), "num_classes='ten'"),
        (lambda: OnlineMean(2.0), "num_classes=2.0"),
        (lambda: OnlineMean(True), "num_classes=True"),
        (lambda: MeanCondensation(2, condensation_steps=0), "condensation_steps=0"),
        (lambda: MeanCondensation(2, condensation_steps=1.5), "condensation_steps=1.5"),
        (lambda: DecayMean(2, decay=1), "decay=1"),
        (lambda: DecayMean(2, decay=-0.1), "decay=-0.1"),
        (lambda: DecayMean(2, decay=float("nan")), "decay=nan"),
        (lambda: DecayMean(2, decay="0.9"), "decay='0.9'"),
    ],
)
def test_bad_arguments(make, received):
    with pytest.raises(ValueError, match=f"Received: {received}$"):
        make()


@pytest.mark.bad_input
def test_bad_labels():
    with pytest.raises(ValueError, match=r"labels of shape \(2, 3\) and dtype"):
        OnlineMean(4).update(np.ones((2, 5)), np.ones((2, 3)))


def test_numpy_integers_are_integers():
    assert OnlineMean(np.int64(3)).get_config()["num_classes"] == 3
