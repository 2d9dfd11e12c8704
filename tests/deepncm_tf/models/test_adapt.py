# SPDX-License-Identifier: Apache-2.0
"""`adapt`: the state of all samples in one pass, for every classifier."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import random_images, small_backbone, to_numpy
from methods import IDS, KINDS, TABLE, rows_of

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import (
    DecayMean,
    LinearDiscriminant,
    MeanCondensation,
    NeighborhoodComponents,
    OnlineMean,
    Softmax,
    SubCentroids,
)
from deepncm_tf.distribution import strategies

C, D, N = 3, 4, 21
STATISTICS = [(c, a) for c, a in TABLE if c.adapts_from == "statistics"]
FEATURES = [SubCentroids, NeighborhoodComponents]
every_statistics_head = pytest.mark.parametrize(
    ("cls", "arguments"), STATISTICS, ids=[cls.__name__ for cls, _ in STATISTICS]
)


def data(seed=0, n=N):
    rng = np.random.default_rng(seed)
    y = rng.integers(C, size=n)
    w = rng.integers(3, size=n).astype("float32")
    return (rng.normal(size=(n, D)) + y[:, None]).astype("float32"), y, w


def make(cls, arguments=None, num_replicas=1):
    """A model whose features are its inputs: nothing is rounded before the statistics."""
    scope = contextlib.nullcontext()
    if num_replicas > 1:
        scope = strategies.get_strategy("mirrored", num_replicas).scope()
    with scope:
        backbone = keras.Sequential([keras.Input((D,)), keras.layers.Identity()])
        return DeepNCM(backbone, cls(C, **(arguments or {})))


def adapted(cls, arguments, *arrays, num_replicas=1, **kwargs):
    model = make(cls, arguments, num_replicas)
    model.adapt(*arrays, verbose=0, **kwargs)
    return model


def state(model):
    return [to_numpy(v) for v in model.classifier.variables if "rmd" not in v.path]


def assert_same_state(one, other):
    for a, b in zip(state(one), state(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("cls", "arguments"), rows_of(["online", "ranpac"], STATISTICS))
def test_order_batches_and_replicas_change_nothing_to_the_bit(cls, arguments):
    x, y, w = data()
    order = np.random.default_rng(1).permutation(N)
    whole = adapted(cls, arguments, x, y, w, batch_size=N)
    others = [
        adapted(cls, arguments, x, y, w, batch_size=1),
        adapted(cls, arguments, x[order], y[order], w[order], batch_size=7),
        adapted(cls, arguments, x, y, w, batch_size=10, num_replicas=2),
        adapted(cls, arguments, tf.data.Dataset.from_tensor_slices((x, y, w)).batch(4)),
    ]
    for other in others:
        assert_same_state(whole, other)
    copies = others[2].classifier.variables[0].value.values
    np.testing.assert_array_equal(copies[0].numpy(), copies[1].numpy())


@pytest.mark.slow
@every_statistics_head
def test_more_samples_are_added(cls, arguments):
    x, y, w = data()
    model = make(cls, arguments)
    model.adapt(*data(seed=5), verbose=0)  # forgotten
    model.adapt(x[:8], y[:8], w[:8], verbose=0)
    model.adapt(x[8:], y[8:], w[8:], reset=False, verbose=0)
    whole = adapted(cls, arguments, x, y, w)
    for a, b in zip(state(model), state(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    if cls not in (DecayMean, MeanCondensation):
        assert_same_state(model, whole)


@pytest.mark.parametrize("cls", [OnlineMean, DecayMean])
def test_means_are_those_of_a_plain_loop(cls):
    x, y, w = data()
    model = adapted(cls, {}, x, y, w)
    for c in range(C):
        rows = np.round(x[y == c].astype("float64") * 2**12) / 2**12
        mean = (w[y == c, None] * rows).sum(axis=0) / w[y == c].sum()
        np.testing.assert_allclose(to_numpy(model.classifier.means)[c], mean, rtol=1e-6)
    np.testing.assert_array_equal(
        to_numpy(model.classifier.counts), np.bincount(y, w, minlength=C)
    )


def test_a_backbone_is_as_in_inference_and_stays_as_it_is():
    images, labels = random_images(20, C)
    model = DeepNCM(small_backbone(normalize=True), LinearDiscriminant(C), embedding_dim=5)
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(images, labels, verbose=0)
    before = [to_numpy(v) for v in model.backbone.variables]
    model.adapt(images, labels, batch_size=7, verbose=0)
    for variable, value in zip(model.backbone.variables, before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)
    own = LinearDiscriminant(C)
    features = model.embed(images, verbose=0)
    own.update(features, labels)
    own.refresh()
    np.testing.assert_allclose(
        model.predict(images, verbose=0), to_numpy(own(features)), rtol=1e-2, atol=1e-2
    )


def test_sub_centroids_are_those_of_their_samples():
    x, y, _ = data(n=60)
    model = adapted(SubCentroids, {"num_sub_centroids": 2, "feature_norm": None}, x, y)
    classifier = model.classifier
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    centroids = to_numpy(classifier.sub_centroids)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=-1), 1, atol=1e-5)
    from deepncm_tf.numerics import clustering

    layout = clustering.Flat(y, C)
    near = clustering.cosines(layout, units, keras.ops.convert_to_tensor(centroids))
    assigned = to_numpy(clustering.assign(layout, near))  # which it would not change again
    for c in range(C):
        sizes = [(assigned[y == c] == k).sum() for k in range(2)]
        assert min(sizes) > 0.25 * sum(sizes)
        for k in range(2):
            total = units[(y == c) & (assigned == k)].sum(axis=0)
            np.testing.assert_allclose(
                centroids[c, k], total / np.linalg.norm(total), atol=1e-5
            )
    np.testing.assert_array_equal(to_numpy(classifier.count), np.bincount(y))
    again = to_numpy(classifier.sub_centroids)
    model.adapt(x, y, verbose=0)
    np.testing.assert_allclose(to_numpy(classifier.sub_centroids), again, atol=1e-6)


def test_sub_centroids_keep_the_weight_of_earlier_samples():
    arguments = {"num_sub_centroids": 1, "feature_norm": None}
    x, y, _ = data()
    model = adapted(SubCentroids, arguments, x, y)
    before = to_numpy(model.classifier.sub_centroids)[:, 0]
    more, labels, _ = data(seed=2, n=9)
    model.adapt(more, labels, reset=False, verbose=0)
    units = more / np.linalg.norm(more, axis=1, keepdims=True)
    counts = np.bincount(y, minlength=C)
    for c in range(C):
        total = counts[c] * before[c] + units[labels == c].sum(axis=0)
        np.testing.assert_allclose(
            to_numpy(model.classifier.sub_centroids)[c, 0],
            total / np.linalg.norm(total),
            atol=1e-5,
        )


def test_a_bank_holds_the_features():
    x, y, w = data()
    model = adapted(NeighborhoodComponents, {"bank_size": 30}, x, y, w)
    kept = w > 0
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    labels = to_numpy(model.classifier.bank_labels)
    assert labels.tolist() == [*y[kept], *[-1] * (30 - kept.sum())]
    bank = to_numpy(model.classifier.bank)
    np.testing.assert_allclose(bank[: kept.sum()], units[kept], atol=1e-6)
    model.adapt(x[:2], y[:2], reset=False, verbose=0)
    np.testing.assert_allclose(
        to_numpy(model.classifier.bank)[kept.sum() : kept.sum() + 2], units[:2], atol=1e-6
    )
    rows = np.array([4, -1, 7], "int32")
    model.adapt({"image": x[:3], "index": rows}, y[:3], verbose=0)
    labels = to_numpy(model.classifier.bank_labels)
    assert np.flatnonzero(labels >= 0).tolist() == [4, 7]
    assert labels[[4, 7]].tolist() == [y[0], y[2]]


@pytest.mark.parametrize("cls", FEATURES)
def test_features_of_replicas_and_datasets(cls):
    arguments = {"bank_size": N} if cls is NeighborhoodComponents else {}
    x, y, w = data()
    w[:] = 1
    keras.utils.set_random_seed(0)
    models = [adapted(cls, arguments, x, y)]
    dataset = tf.data.Dataset.from_tensor_slices((x, y, w)).batch(4)
    for arrays, num_replicas in (((x, y, w), 2), ((dataset,), 1)):
        keras.utils.set_random_seed(0)
        models.append(adapted(cls, arguments, *arrays, num_replicas=num_replicas))
    for model in models[1:]:
        for a, b in zip(state(model), state(models[0]), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(("cls", "arguments"), rows_of(KINDS))
def test_a_classifier_alone_adapts_to_features_as_the_model_does(cls, arguments):
    if cls is Softmax:
        with pytest.raises(ValueError, match="only gradients find"):
            cls(C).adapt(*data()[:2])
        return
    x, y, w = data()
    x[2, 1] = np.nan
    model = make(cls, arguments)
    alone = cls.from_config(model.classifier.get_config())
    alone.build((None, D))
    for variable, start in zip(alone.variables, model.classifier.variables, strict=True):
        variable.assign(start)
    for reset in (True, False):
        model.adapt(x, y, w, reset=reset, verbose=0)
        alone.adapt(x, y, w, reset=reset, batch_size=5)
    for variable, expected in zip(alone.variables, model.classifier.variables, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), to_numpy(expected))


def test_samples_that_are_not_finite_take_no_part():
    x, y, _ = data()
    broken = x.copy()
    broken[3] = np.nan
    keep = np.arange(N) != 3
    one = adapted(OnlineMean, {}, broken, y)
    assert_same_state(one, adapted(OnlineMean, {}, x[keep], y[keep]))


@pytest.mark.bad_input
@pytest.mark.parametrize("cls", [OnlineMean, SubCentroids])
def test_wrong_labels_and_weights_change_nothing(cls):
    x, y, w = data()
    model = adapted(cls, {}, x, y)
    before = state(model)
    for labels, weights, message in (
        (np.where(np.arange(N) == 3, C, y), None, "Received: a label of 3"),
        (y, np.where(np.arange(N) == 3, -1, w), "Received: a weight of -1"),
        (None, None, "must be given. Received: y=None"),
    ):
        with pytest.raises(ValueError, match=message):
            model.adapt(x, labels, weights, verbose=0)
    with pytest.raises(ValueError, match=r"at least one sample\. Received: none"):
        model.adapt(x[:0], y[:0], verbose=0)
    for a, b in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.bad_input
def test_what_cannot_adapt_says_why():
    x, y, _ = data()
    with pytest.raises(ValueError, match=r"Softmax has weights that only gradients find"):
        make(Softmax).adapt(x, y)
    with pytest.raises(ValueError, match=r"21 samples for 20 free rows of 20"):
        make(NeighborhoodComponents, {"bank_size": 20}).adapt(x, y, verbose=0)
    with pytest.warns(UserWarning, match="with 53 available"):
        make(OnlineMean).adapt(x, y, np.full(N, 0.1, "float32"), verbose=0)


def test_every_method_adapts_or_says_that_it_does_not():
    kinds = {name: cls.adapts_from for name, (cls, _) in zip(IDS, TABLE, strict=True)}
    assert {name for name, kind in kinds.items() if kind is None} == {"Softmax"}
