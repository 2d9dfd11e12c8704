# SPDX-License-Identifier: Apache-2.0
"""Class means with cosines, centring and unit length, against scikit-learn and loops."""

import keras
import numpy as np
import pytest
from helpers import to_numpy

from deepncm_tf.classifiers import DecayMean, OnlineMean

C, D = 4, 5


def data(n=40, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % C
    return (rng.normal(size=(n, D)) + 2 + y[:, None] % 2).astype("float32"), y


def fitted(x, y, **arguments):
    classifier = OnlineMean(C, **arguments)
    for start in range(0, len(x), 7):
        classifier.update(x[start : start + 7], y[start : start + 7])
    return classifier


def cl2n(x, center):
    """SimpleShot's features: centred, of unit length."""
    x = x - center
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_nearest_centroid_of_scikit_learn():
    from sklearn.neighbors import NearestCentroid

    (x, y), (queries, _) = data(), data(seed=1)
    center = x.mean(axis=0) + 1
    plain = NearestCentroid().fit(x, y)
    scaled = NearestCentroid().fit(cl2n(x, center), y)
    for classifier, reference, of in (
        (fitted(x, y), plain, queries),
        (
            fitted(x, y, center=center, unit_length=True),
            scaled,
            cl2n(queries, center).astype("float32"),
        ),
    ):
        np.testing.assert_allclose(
            to_numpy(classifier.means), reference.centroids_, rtol=1e-4, atol=1e-5
        )
        logits = to_numpy(classifier(queries))
        np.testing.assert_array_equal(logits.argmax(axis=1), reference.predict(of))
        squares = np.square(of[:, None] - reference.centroids_).sum(axis=-1)
        np.testing.assert_allclose(logits, -squares, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("center", [None, "mean", [1.0, 2.0, 0.0, 3.0, 1.0]])
def test_cosines(center):
    (x, y), (queries, _) = data(), data(seed=1)
    middle = {None: np.zeros(D), "mean": x.mean(axis=0)}.get(
        center if isinstance(center, (str, type(None))) else "other", center
    )
    means = np.stack([x[y == c].mean(axis=0) for c in range(C)])
    expected = np.empty((len(queries), C))
    for i, query in enumerate(queries - np.array(middle)):
        for c, mean in enumerate(means - np.array(middle)):
            lengths = np.linalg.norm(query) * np.linalg.norm(mean)
            expected[i, c] = query @ mean / lengths / 0.5
    classifier = fitted(x, y, metric="cosine", center=center, temperature=0.5)
    np.testing.assert_allclose(
        to_numpy(classifier(queries)), expected, rtol=1e-3, atol=1e-4
    )
    compared = to_numpy(classifier.compare(queries, means.astype("float32")))
    if not isinstance(center, list):
        np.testing.assert_allclose(compared, expected * 0.5, rtol=1e-3, atol=1e-4)


def test_other_means_take_the_same_arguments():
    x, y = data()
    center = x.mean(axis=0)
    classifier = DecayMean(C, decay=0.0, center=center.tolist(), unit_length=True)
    classifier.update(x, y)
    scaled = cl2n(x, center)
    expected = np.stack([scaled[y == c].mean(axis=0) for c in range(C)])
    np.testing.assert_allclose(to_numpy(classifier.means), expected, rtol=1e-4, atol=1e-5)
    again = DecayMean.from_config(classifier.get_config())
    assert again.get_config() == classifier.get_config()


def test_earlier_configs_are_those_of_distances():
    config = OnlineMean(C).get_config()
    for name in ("metric", "center", "unit_length", "temperature"):
        del config[name]
    assert OnlineMean.from_config(config).metric == "euclidean"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metric": "manhattan"}, "Received: metric='manhattan'"),
        ({"temperature": 0}, "Received: temperature=0"),
        ({"center": "median"}, "or None. Received: center='median'"),
        ({"center": [[1.0]]}, r"or None. Received: center=\[\[1.0\]\]"),
        ({"center": "mean"}, "Received: center='mean', metric='euclidean'"),
        ({"center": "mean", "metric": "cosine", "unit_length": True}, "unit_length=True"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        OnlineMean(C, **arguments)


@pytest.mark.bad_input
def test_a_center_of_other_dimensions():
    with pytest.raises(ValueError, match=r"5 dimensions\. Received: 2 numbers"):
        OnlineMean(C, center=[1.0, 2.0])(keras.ops.ones((1, D)))
