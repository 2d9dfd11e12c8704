# SPDX-License-Identifier: Apache-2.0
"""The estimator does what scikit-learn asks of one, and what its classifier does."""

import doctest
import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from deepncm_tf.estimators import NearestMeanClassifier, nearest_mean

HEADS = {
    "online": None,
    "lda": {"shrinkage": 0.01},
    "ranpac": {"num_features": 40},
}
every_head = pytest.mark.parametrize("head", HEADS)


def digits(n=300):
    x, y = load_digits(return_X_y=True)
    return x[:n], np.array([f"digit {label}" for label in y[:n]])


@pytest.mark.slow
@every_head
def test_checks_of_scikit_learn(head):
    check_estimator(NearestMeanClassifier(head, HEADS[head]), on_skip=None)


def test_every_head_is_checked():
    assert set(HEADS) == set(nearest_mean.HEADS)


@every_head
def test_a_batch_at_a_time_is_the_same_to_the_bit(head):
    x, y = digits()
    whole = NearestMeanClassifier(head, HEADS[head]).fit(x, y)
    parts = clone(whole)
    for rows in np.array_split(np.random.default_rng(0).permutation(len(x)), 4):
        parts.partial_fit(x[rows], y[rows], classes=np.unique(y))
    expected = whole.decision_function(x)
    np.testing.assert_array_equal(parts.decision_function(x), expected)
    again = pickle.loads(pickle.dumps(whole))
    np.testing.assert_array_equal(again.decision_function(x), expected)
    again.partial_fit(x, y)
    np.testing.assert_allclose(whole.predict_proba(x).sum(axis=1), 1)
    assert whole.score(x, y) > 0.85
    assert set(whole.predict(x)) == set(y)


def test_others_of_scikit_learn():
    x, y = digits()
    # No feature is constant, and all of them are on the grid.
    x = x + np.random.default_rng(0).integers(-(2**12), 2**12, size=x.shape) / 2**12
    np.testing.assert_array_equal(
        NearestMeanClassifier().fit(x, y).predict(x), NearestCentroid().fit(x, y).predict(x)
    )
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(x, y)
    own = NearestMeanClassifier("lda", {"shrinkage": 0.3}).fit(x, y)
    np.testing.assert_allclose(own.predict_proba(x), reference.predict_proba(x), atol=1e-6)


def test_in_a_pipeline_and_a_search():
    x, y = digits()
    pipeline = make_pipeline(StandardScaler(), NearestMeanClassifier("lda"))
    assert cross_val_score(pipeline, x, y, cv=3).mean() > 0.85
    grid = {"nearestmeanclassifier__arguments": [{"shrinkage": s} for s in (0.01, 1.0)]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(x, y)
    assert search.best_params_["nearestmeanclassifier__arguments"]["shrinkage"] == 0.01


def test_example():
    outcome = doctest.testmod(nearest_mean)
    assert (outcome.attempted, outcome.failed) == (2, 0)


@pytest.mark.bad_input
def test_bad_input():
    x, y = digits(30)
    with pytest.raises(ValueError, match="Received: head='nca'"):
        NearestMeanClassifier("nca").fit(x, y)
    estimator = NearestMeanClassifier()
    with pytest.raises(ValueError, match="Received: classes=None"):
        estimator.partial_fit(x, y)
    estimator.partial_fit(x, y, classes=np.unique(y))
    with pytest.raises(ValueError, match=r"Received: \['other'\]"):
        estimator.partial_fit(x[:1], ["other"])
    with pytest.raises(ValueError, match="Received: classes="):
        estimator.partial_fit(x, y, classes=["a", "b"])
    for wrong in ([1], {"num_classes": 3}, {"dtype": "float32"}):
        with pytest.raises(ValueError, match="`arguments` must be a dictionary"):
            NearestMeanClassifier("lda", wrong).fit(x, y)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sample_weight": np.ones(3)}, "sample_weight.shape"),
        ({"sample_weight": -np.ones(50)}, "[Nn]egative"),
        ({"columns": 3, "sample_weight": np.ones(3)}, "sample_weight.shape"),
        ({"columns": 3, "y": np.linspace(0, 1, 50)}, "Unknown label type"),
        ({"columns": 3, "params": {"head": "nca"}}, "`head` must be"),
        ({"columns": 3, "params": {"arguments": {"grid_bits": -1}}}, "`grid_bits` must be"),
    ],
)
def test_a_fit_that_fails_changes_nothing(wrong, message):
    x, y = digits(50)
    estimator = NearestMeanClassifier("lda").fit(x, y)
    expected = estimator.decision_function(x)
    estimator.set_params(**wrong.get("params", {}))
    others = x[::-1, : wrong.get("columns")], wrong.get("y", np.roll(y, 3))
    with pytest.raises(ValueError, match=message):
        estimator.fit(*others, wrong.get("sample_weight"))
    np.testing.assert_array_equal(estimator.decision_function(x), expected)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "wrong",
    [
        {"classes": ["digit 0", "digit 1"]},
        {"sample_weight": np.ones(3)},
        {"sample_weight": -np.ones(50)},
    ],
)
def test_a_first_partial_fit_that_fails_is_none(wrong):
    x, y = digits(50)
    classes, estimator = np.unique(y), NearestMeanClassifier()
    with pytest.raises(ValueError, match=r"`y` must be|sample_weight.shape|[Nn]egative"):
        estimator.partial_fit(x, y, **{"classes": classes, **wrong})
    with pytest.raises(NotFittedError):
        estimator.predict(x)
    estimator.partial_fit(x[:, :9], y, classes=classes)
    assert estimator.n_features_in_ == 9


def test_what_was_set_since_is_not_what_was_learnt():
    x, y = digits(50)
    estimator = NearestMeanClassifier("lda", {"shrinkage": 0.5}).fit(x, y)
    expected = estimator.decision_function(x)
    estimator.set_params(head="online", arguments=None)
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.decision_function(x), expected)


def test_sums_of_32_bits_are_warned_of_once(monkeypatch):
    x, y = digits(50)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        NearestMeanClassifier().fit(x, y)
        monkeypatch.setattr(nearest_mean, "sum_dtype", lambda: "float32")  # as on JAX
        nearest_mean._warn_of_short_sums.cache_clear()
        with pytest.warns(UserWarning, match="JAX_ENABLE_X64=1 for sums") as caught:
            NearestMeanClassifier("lda").fit(x, y)
        assert caught[0].filename == __file__
        NearestMeanClassifier().partial_fit(x, y, classes=np.unique(y))


def with_a_wide_one(x):
    return np.c_[x * 3e-5, np.linspace(0, 0.2, len(x))]


@pytest.mark.parametrize("fit", ["fit", "partial_fit"])
@pytest.mark.parametrize("narrow", [lambda x: x * 1e-4, with_a_wide_one])
def test_features_that_rounding_would_take_away(fit, narrow):
    x, y = digits(50)
    x, small = narrow(x), narrow(x)[:, :64].std(axis=0)
    count, smallest = (small > 0).sum(), small[small > 0].min()
    arguments = {"classes": np.unique(y)} if fit == "partial_fit" else {}
    with pytest.warns(UserWarning, match="to multiples of 0.000244. Scale") as caught:
        getattr(NearestMeanClassifier(), fit)(x, y, **arguments)
    assert caught[0].filename == __file__
    message = str(caught[0].message)
    assert message.startswith(f"{count} of {(x.std(axis=0) > 0).sum()} features that vary")
    assert f"below 0.0156, the smallest {smallest:.3g}, and" in message
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        getattr(NearestMeanClassifier("lda", {"grid_bits": 24}), fit)(x, y, **arguments)
        # A few samples may be alike that others are not.
        NearestMeanClassifier().partial_fit(x[:2], y[:2], classes=np.unique(y))


def relu_features(x, bias):
    """Features of a small random network; a negative bias makes its units rarely active."""
    rng = np.random.default_rng(0)
    for width, shift in ((256, 0), (256, bias)):
        x = x @ rng.normal(size=(x.shape[1], width)) * np.sqrt(2 / x.shape[1])
        x = np.maximum(x + shift * x.std(), 0)
    return x


def unit_length(x):
    x = relu_features(np.c_[x, x], -1)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize(
    "features",
    [
        lambda x: x,
        lambda x: relu_features(x, 0),
        lambda x: relu_features(x, -2),
        lambda x: relu_features(x, -2) / 10,
        lambda x: unit_length(x) / 3,  # as of 2,000 units
        lambda x: np.c_[x[:, :20], np.full((len(x), 90), 0.1)],  # `std` is 1e-17
    ],
)
def test_features_that_hardly_vary_beside_others(features):
    x, y = digits()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        NearestMeanClassifier().fit(features(x / 16), y)
