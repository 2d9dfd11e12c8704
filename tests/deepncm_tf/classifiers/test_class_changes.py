# SPDX-License-Identifier: Apache-2.0
"""Classes and samples that come and go: the laws, on classifiers alone."""

import functools

import keras
import numpy as np
import pytest
from helpers import to_numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from methods import IDS, TABLE

from deepncm_tf.classifiers import (
    DecayMean,
    LinearDiscriminant,
    NeighborhoodComponents,
    OnlineMean,
    RandomFeatures,
    Softmax,
    SubCentroids,
)
from deepncm_tf.classifiers.class_changes import forget, merge_statistics, regroup
from deepncm_tf.numerics import statistics

C, D = 4, 3
ARGUMENTS = {
    OnlineMean: {},
    LinearDiscriminant: {"shrinkage": 0.2},
    RandomFeatures: {"num_features": 7, "ridge": 1.0},
}
WITH_STATE = [(cls, arguments) for cls, arguments in TABLE if cls is not Softmax]
WITH_STATE.append((DecayMean, {"bias_correction": True, "dtype": "float64"}))
every_method = pytest.mark.parametrize(
    ("cls", "arguments"), WITH_STATE, ids=[cls.__name__ for cls, _ in WITH_STATE]
)
# What is computed from the state, or is of samples whose class may be gone.
NOT_OF_A_CLASS = ("kernel", "bias", "center", "solved", "moment", "removed", "extent")
pytestmark = pytest.mark.skipif(
    statistics.bits_available() < 53, reason="JAX adds up in float32 by default"
)
statistics_heads = st.sampled_from(list(ARGUMENTS))
seeds = st.integers(0, 2**32 - 1)


def data(seed, n=12, classes=C):
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    return (3 * rng.normal(size=(n, D)) + y[:, None]).astype("float32"), y


def adapted(cls, x, y, classes=C, arguments=None):
    classifier = cls(classes, **(ARGUMENTS[cls] if arguments is None else arguments))
    classifier.build((None, D))
    classifier.adapt(x, y)
    return classifier


def sums_of(classifier):
    """The statistics, without the bounds of what they once were."""
    names = ("counts", "totals", "moment", "removed")
    return [
        to_numpy(getattr(sums, name))
        for sums in classifier.read_statistics()
        for name in names
        if getattr(sums, name) is not None
    ]


def assert_equal(one, other):
    """To the bit, and so are their logits."""
    for a, b in zip(sums_of(one), sums_of(other), strict=True):
        np.testing.assert_array_equal(a, b)
    x, _ = data(0)
    np.testing.assert_array_equal(to_numpy(one(x)), to_numpy(other(x)))


def batch_of(classifier, x, y):
    return classifier.batch_statistics(classifier._samples(x, y))


def add_then_remove_is_before(cls, seed, number):
    before = adapted(cls, *data(seed))
    grown = regroup(before, [*((c,) for c in range(C)), *[()] * number])
    assert to_numpy(grown.seen())[C:].tolist() == [False] * number
    assert_equal(regroup(grown, [(c,) for c in range(C)]), before)


def merged_classes_are_as_if_labelled_so_from_the_start(cls, seed, one, other):
    x, y = data(seed)
    groups = {(c,) for c in range(C)} - {(one,), (other + 1,)}
    groups = [*sorted(groups), tuple({one, other + 1})]
    numbers = {label: c for c, group in enumerate(groups) for label in group}
    labels = np.array([numbers[label] for label in y])
    assert_equal(regroup(adapted(cls, x, y), groups), adapted(cls, x, labels, len(groups)))


def the_order_in_which_classes_arrive_does_not_matter(cls, seed):
    x, y = data(seed)
    order = np.random.default_rng(seed).permutation(C)
    classifier = None
    for number, label in enumerate(order):
        if classifier is None:
            classifier = cls(1, **ARGUMENTS[cls])
            classifier.build((None, D))
        else:
            classifier = regroup(classifier, [*((c,) for c in range(number)), ()])
        own = x[y == label]
        if len(own):
            classifier.adapt(own, np.full(len(own), number), reset=False)
    back = [(int(np.flatnonzero(order == label)[0]),) for label in range(C)]
    assert_equal(regroup(classifier, back), adapted(cls, x, y))


def forgotten_samples_were_never_seen(cls, seed, gone):
    x, y = data(seed)
    whole = adapted(cls, x, y)
    left = forget(whole, batch_of(whole, x[:gone], y[:gone]))
    assert_equal(left, adapted(cls, x[gone:], y[gone:]))


def merged_statistics_are_those_of_all_samples(cls, seed, first):
    x, y = data(seed)
    parts = adapted(cls, x[:first], y[:first]), adapted(cls, x[first:], y[first:])
    assert_equal(functools.reduce(merge_statistics, parts), adapted(cls, x, y))


LAWS = {
    add_then_remove_is_before: {"number": st.integers(1, 3)},
    merged_classes_are_as_if_labelled_so_from_the_start: {
        "one": st.integers(0, 2),
        "other": st.integers(0, 2),
    },
    the_order_in_which_classes_arrive_does_not_matter: {},
    forgotten_samples_were_never_seen: {"gone": st.integers(0, 12)},
    merged_statistics_are_those_of_all_samples: {"first": st.integers(0, 12)},
}
laws = pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)


def check(law, examples):
    given_examples = given(cls=statistics_heads, seed=seeds, **LAWS[law])
    settings(max_examples=examples, deadline=None)(given_examples(law))()


@laws
def test_laws(law):
    check(law, 10)


@pytest.mark.thorough
@laws
def test_laws_of_many(law):
    check(law, 200)


@every_method
def test_classes_that_stay_keep_their_state(cls, arguments):
    x, y = data(5, n=40)
    classifier = cls(C, **arguments)
    classifier.build((None, D))
    for start in range(0, 40, 10):
        index = np.arange(start, start + 10, dtype="int32")
        classifier.update(x[index], y[index], index=index)
    for variable in classifier.trainable_weights:
        variable.assign(np.random.default_rng(3).normal(size=variable.shape))
    new = regroup(classifier, [(3,), (), (0,)])
    assert new.num_classes == 3
    assert to_numpy(new.seen()).tolist() == [True, False, True]
    for before, after in zip(classifier.weights, new.weights, strict=True):
        if before.name.removeprefix("held_out_") in NOT_OF_A_CLASS:
            continue
        old, kept = to_numpy(before), to_numpy(after)
        if before.name == "bank_labels":
            old = np.array([2, -1, -1, 0, -1])[old]
        if old.shape != kept.shape:
            old, kept = old.reshape(C, -1)[[3, 0]], kept.reshape(3, -1)[[0, 2]]
        np.testing.assert_array_equal(kept, old, before.name)
    new.update(x[y == 0][:9], np.full(9, 1), index=np.arange(9))
    new.refresh()
    assert to_numpy(new.seen()).all()
    assert np.isfinite(to_numpy(new(x))).all()
    keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(new))


@pytest.mark.parametrize("cls", [OnlineMean, DecayMean, NeighborhoodComponents])
def test_logits_of_classes_that_stay(cls):
    x, y = data(2)
    arguments = {"bank_size": 20} if cls is NeighborhoodComponents else {}
    classifier = adapted(cls, x, y, arguments=arguments)
    new = regroup(classifier, [(2,), (0,)])
    np.testing.assert_allclose(
        to_numpy(new(x)), to_numpy(classifier(x))[:, [2, 0]], rtol=1e-6
    )


def test_discriminants_of_classes_that_stay_keep_their_differences():
    """The covariance within classes keeps what it knows of a class that is gone."""
    x, y = data(3, n=60)
    classifier = adapted(LinearDiscriminant, x, y)
    new = regroup(classifier, [(2,), (0,)])
    old, kept = to_numpy(classifier(x))[:, [2, 0]], to_numpy(new(x))
    np.testing.assert_allclose(
        kept[:, 0] - kept[:, 1], old[:, 0] - old[:, 1], rtol=1e-3, atol=1e-3
    )
    (sums,) = new.read_statistics()
    assert float(sums.removed) == ((y == 1) | (y == 3)).sum()
    assert new.is_exact()
    assert to_numpy(new(x)).argmax(axis=1).tolist() == old.argmax(axis=1).tolist()


def test_sub_centroids_of_merged_classes():
    arguments = {"num_sub_centroids": [1, 2, 3, 1], "memory_size": 60}
    x, y = data(4, n=30)
    classifier = SubCentroids(C, **arguments)
    classifier.build((None, D))
    classifier.update(x, y)
    new = regroup(classifier, [(1, 0), (2,)])
    assert new.num_sub_centroids == 3
    assert new.memory_size == 30
    old, kept = to_numpy(classifier.sub_centroids), to_numpy(new.sub_centroids)
    np.testing.assert_array_equal(kept[0], [old[1, 0], old[1, 1], old[0, 0]])
    np.testing.assert_array_equal(kept[1], old[2])
    one, other = classifier._memory.read("float32"), new._memory.read("float32")
    np.testing.assert_array_equal(to_numpy(other[0])[1], to_numpy(one[0])[2])
    assert to_numpy(other[2])[0].sum() == 0  # begins anew
    new.update(x, np.where(y == 2, 1, 0))


def test_the_start_of_merged_decay_means():
    classifier = DecayMean(C, decay=0.5, bias_correction=True)
    for labels in ([0, 1], [0], [0, 3]):
        classifier.update(np.ones((len(labels), D), "float32"), labels)
    new = regroup(classifier, [(1, 0), (2,), (3,), ()])
    np.testing.assert_array_equal(to_numpy(new.start), [0.5**3, 1, 0.5, 1])


def test_a_bank_of_merged_and_removed_classes():
    x, y = data(5)
    classifier = adapted(NeighborhoodComponents, x, y, arguments={"bank_size": 12})
    new = regroup(classifier, [(2,), (0, 3)])
    labels = np.select([y == 2, (y == 0) | (y == 3)], [0, 1], -1)
    np.testing.assert_array_equal(to_numpy(new.bank_labels), labels)
    np.testing.assert_array_equal(to_numpy(new.bank), to_numpy(classifier.bank))


@pytest.mark.bad_input
def test_what_cannot_change_says_why():
    x, y = data(0)
    with pytest.raises(ValueError, match="Softmax has weights that gradients have found"):
        regroup(Softmax(C), [(0,)])
    for groups in ([], [(0,), (0,)], [(C,)]):
        with pytest.raises(ValueError, match="Received: groups="):
            regroup(adapted(OnlineMean, x, y), groups)
    decay = adapted(DecayMean, x, y, arguments={})
    with pytest.raises(ValueError, match="Decay means, condensed means"):
        forget(decay, batch_of(decay, x, y))
    trained = OnlineMean(C)
    trained.update(x / 3, y)
    with pytest.raises(ValueError, match=r"Call `adapt` first"):
        forget(trained, batch_of(trained, x, y))
    with pytest.raises(ValueError, match=r"Call `adapt` first"):
        merge_statistics(trained, adapted(OnlineMean, x, y))
    for cls in ARGUMENTS:
        whole = adapted(cls, x[:6], y[:6])
        with pytest.raises(ValueError, match="Received: samples that were not"):
            forget(whole, batch_of(whole, x, y))
        with pytest.raises(ValueError, match="may be rounded"):
            forget(whole, batch_of(whole, x * 1e12, y))
    one, other = (
        adapted(LinearDiscriminant, x, y, arguments={"grid_bits": bits}) for bits in (8, 9)
    )
    with pytest.raises(ValueError, match="Received: grid_bits=9, and here grid_bits=8"):
        merge_statistics(one, other)
    with pytest.raises(ValueError, match="`other` must be a classifier of the same class"):
        merge_statistics(one, 5)
    unbuilt = OnlineMean(C)
    for change in (
        lambda: regroup(unbuilt, [(0,)]),
        lambda: forget(unbuilt, []),
        lambda: merge_statistics(unbuilt, unbuilt),
    ):
        with pytest.raises(ValueError, match="`classifier` must be built"):
            change()


def test_every_method_is_tried():
    assert {cls.__name__ for cls, _ in WITH_STATE} | {"Softmax"} == set(IDS)
