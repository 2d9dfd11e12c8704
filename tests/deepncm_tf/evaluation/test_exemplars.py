# SPDX-License-Identifier: Apache-2.0
"""Which training images stand for a class."""

import numpy as np
import pytest
from helpers import to_numpy
from methods import ARGUMENTS, IDS, TABLE, trained_in_space

from deepncm_tf.classifiers import NAMES, DecayMean, OnlineMean
from deepncm_tf.evaluation import explanation


def test_class_means_have_the_image_nearest_the_mean():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, 3)).astype("float32"), rng.integers(3, size=40)
    for classifier in (OnlineMean(3), DecayMean(3, decay=0.5)):
        classifier.update(x, y)
        found = explanation.find_exemplars(classifier, x, y, x)
        means = to_numpy(classifier.means)
        for c in range(3):
            rows = np.flatnonzero(y == c)
            nearest = rows[((x[rows] - means[c]) ** 2).sum(-1).argmin()]
            assert found.index[c, 0] == nearest
        near = explanation.compare(classifier, x[:4], found)
        expected = -((x[:4, None] - x[found.index[:, 0]]) ** 2).sum(-1)
        np.testing.assert_allclose(near[..., 0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["softmax", "nca", "lda", "ranpac"])
def test_without_prototypes_it_is_the_image_nearest_the_mean_of_its_class(name):
    classifier, x, y = trained_in_space(NAMES[name], ARGUMENTS[name])
    assert not classifier.has_prototypes
    x[[3, 13, 23]] = 9 * np.eye(3, 5)  # of which a linear method is surest
    found = explanation.find_exemplars(classifier, x, y, x)
    seen = x
    if name == "nca":  # which looks at directions
        seen = x / np.linalg.norm(x, axis=1, keepdims=True)
    for c in range(3):
        apart = np.square(seen - seen[y == c].mean(axis=0)).sum(axis=1)
        assert found.index[c] == [np.where(y == c, apart, np.inf).argmin()]


@pytest.mark.parametrize(("cls", "arguments"), TABLE, ids=IDS)
def test_images_whose_features_are_not_finite_are_left_out(cls, arguments):
    classifier, x, y = trained_in_space(cls, arguments)
    damaged = x.copy()
    damaged[[4, 15]], damaged[20:] = np.nan, np.inf  # nothing is left of class 2
    found = explanation.find_exemplars(classifier, damaged, y, damaged)
    keep = np.delete(np.arange(20), [4, 15])
    expected = explanation.find_exemplars(classifier, x[keep], y[keep], x[keep], keep)
    np.testing.assert_array_equal(found.index, expected.index)
    assert (found.index[:2] >= 0).all()
    assert (found.index[2] == -1).all()
    assert not found.features[2].any()
    assert not found.images[2].any()


@pytest.mark.bad_input
def test_labels_beyond_the_classes():
    classifier, x, y = trained_in_space(OnlineMean, {})
    with pytest.raises(ValueError, match=r"`labels` must be .* 0 to 2, .*: 3 at 20"):
        explanation.find_exemplars(classifier, x, y + 1, x)
    found = explanation.find_exemplars(classifier, x, np.where(y == 2, -1, y), x)
    assert found.index[2].tolist() == [-1]
