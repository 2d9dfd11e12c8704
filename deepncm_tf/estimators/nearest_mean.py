# SPDX-License-Identifier: Apache-2.0
"""The classifiers with class statistics as one scikit-learn estimator."""

import contextlib
import functools
import warnings

import keras
import numpy as np
from keras import ops
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from deepncm_tf import classifiers
from deepncm_tf.numerics.precision import sum_dtype
from deepncm_tf.numerics.statistics import GRID_BITS

HEADS = ("online", "lda", "ranpac")
STEPS = 64  # of the grid that features are rounded to, which their spread should have
# Below it rounding takes accuracy away. Deep features of unit length are well above it, and
# so are most that vary where many units are nearly dead.
FEW_STEPS = 4
FEW_SAMPLES = 10  # may be alike by chance


class NearestMeanClassifier(ClassifierMixin, BaseEstimator):
    """Nearest class means, and what else follows from class statistics.

    What is learned does not depend on the order of samples, nor on how `partial_fit` gets
    them, to the bit, where sample weights are whole numbers: features are rounded to
    multiples of 2^-12 (`grid_bits`) before they are added up. Scale those that vary by
    little more, for example with scikit-learn's `StandardScaler`. Sums must have 64 bits
    for it, which JAX has where the environment variable `JAX_ENABLE_X64` is 1.

    `fit`, and the first call of `partial_fit` if it has 10 samples or more, warn where the
    standard deviations of all features that vary are below 64 such multiples, or those of
    more than half of them below 4. Some that hardly vary, as of nearly dead units of a
    network, do no harm beside others.

    Args:
        head: `"online"` for class means, `"lda"` for linear discriminants or `"ranpac"` for
            ridge regression on random features.
        arguments: Dictionary of arguments of `OnlineMean`, `LinearDiscriminant` or
            `RandomFeatures`, such as `{"metric": "cosine", "center": "mean"}`; or None.

    Attributes:
        classes_: `(n_classes,)` array, the labels.
        classifier_: The `deepncm_tf.classifiers.Classifier`.
        n_features_in_: Int.

    Example:
        >>> x, y = [[0.0, 1.0], [0.0, 3.0], [4.0, 0.0], [4.0, 2.0]], list("aabb")
        >>> NearestMeanClassifier("lda").fit(x, y).predict([[1.0, 1.0]]).tolist()
        ['a']
    """

    def __init__(self, head="online", arguments=None):
        self.head = head
        self.arguments = arguments

    def fit(self, X, y, sample_weight=None):  # noqa: N803
        """Learns from samples, and forgets what was learned before.

        Args:
            X: `(n_samples, n_features)` array.
            y: `(n_samples,)` array of labels: numbers or strings.
            sample_weight: `(n_samples,)` array, or None for ones.

        Returns:
            Itself.
        """
        with _whole_after_errors(self):
            X, y = validate_data(self, X, y, dtype="float64")  # noqa: N806
            self._begin(unique_labels(y), y)._learn(X, y, sample_weight)
            self._warn_of_small(X)
        return self

    def partial_fit(self, X, y, classes=None, sample_weight=None):  # noqa: N803
        """Learns from more samples.

        Args:
            X, y, sample_weight: As for `fit`.
            classes: Array of all labels that there will be; needed in the first call.

        Returns:
            Itself.
        """
        is_first = not hasattr(self, "classifier_")
        with _whole_after_errors(self):
            X, y = validate_data(self, X, y, dtype="float64", reset=is_first)  # noqa: N806
            if is_first:
                if classes is None:
                    raise ValueError(
                        "`classes`, all labels that there will be, must be given in the "
                        "first call of `partial_fit`. Received: classes=None"
                    )
                self._begin(unique_labels(classes), y)
            elif classes is not None and not np.array_equal(
                unique_labels(classes), self.classes_
            ):
                raise ValueError(
                    "`classes` must be those of the first call, "
                    f"{self.classes_.tolist()}. Received: classes={list(classes)}"
                )
            self._learn(X, y, sample_weight)
            if is_first and len(X) >= FEW_SAMPLES:
                self._warn_of_small(X)
        return self

    def decision_function(self, X):  # noqa: N803
        """Logits: `(n_samples, n_classes)`, or their difference `(n_samples,)` for two."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X):  # noqa: N803
        """The softmax of the logits, `(n_samples, n_classes)`."""
        logits = self._logits(X)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)

    def predict(self, X):  # noqa: N803
        """Labels, `(n_samples,)`."""
        numbers = self._logits(X).argmax(axis=1)
        return self.classes_[numbers]

    def _begin(self, classes, y):
        check_classification_targets(y)
        if self.head not in HEADS:
            raise ValueError(f"`head` must be one of {HEADS}. Received: head={self.head!r}")
        arguments = {} if self.arguments is None else self.arguments
        if not isinstance(arguments, dict) or {"num_classes", "dtype"} & set(arguments):
            raise ValueError(
                "`arguments` must be a dictionary of arguments of the head, without "
                f"num_classes and dtype. Received: arguments={self.arguments!r}"
            )
        if sum_dtype() != "float64":
            _warn_of_short_sums()
        self.classes_ = classes
        self.classifier_ = classifiers.get(
            self.head, num_classes=len(classes), dtype="float64", **arguments
        )
        self.classifier_.build((None, self.n_features_in_))
        return self

    def _learn(self, samples, labels, sample_weight):
        unknown = np.setdiff1d(labels, self.classes_)
        if len(unknown):
            raise ValueError(
                f"`y` must be labels in {self.classes_.tolist()}. Received: "
                f"{unknown.tolist()}"
            )
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, samples, ensure_non_negative=True
            )
        numbers = np.searchsorted(self.classes_, labels)
        self.classifier_.adapt(samples, numbers, sample_weight, reset=False)
        return self

    def _warn_of_small(self, samples):
        varying = np.ptp(samples, axis=0) > 0  # `std` of a constant may be 1e-17
        spread = samples[:, varying].std(axis=0)
        grid = 2.0 ** -getattr(self.classifier_, "grid_bits", GRID_BITS)
        small = spread < STEPS * grid
        has_most_lost = 2 * (spread < FEW_STEPS * grid).sum() > len(spread)
        if has_most_lost or (len(spread) and small.all()):
            warnings.warn(
                f"{small.sum()} of {len(spread)} features that vary have a standard "
                f"deviation below {STEPS * grid:.3g}, the smallest {spread.min():.3g}, and "
                f"are rounded to multiples of {grid:.3g}. Scale them, for example with "
                "sklearn.preprocessing.StandardScaler.",
                stacklevel=3,
            )

    def _logits(self, samples):
        check_is_fitted(self, "classifier_")
        samples = validate_data(self, samples, dtype="float64", reset=False)
        return ops.convert_to_numpy(self.classifier_(samples))

    def __getstate__(self):
        state = super().__getstate__()
        if "classifier_" in state:
            classifier = state["classifier_"]
            state = {**state, "classifier_": None}
            state["_config"] = keras.saving.serialize_keras_object(classifier)
            state["_weights"] = classifier.get_weights()
        return state

    def __setstate__(self, state):
        state = dict(state)
        config, weights = state.pop("_config", None), state.pop("_weights", None)
        super().__setstate__(state)
        if config is not None:
            self.classifier_ = classifiers.get(config)
            self.classifier_.set_weights(weights)


@functools.cache  # once
def _warn_of_short_sums():
    warnings.warn(
        "JAX adds up in 32 bits: what is learned depends on the order of samples in its "
        "last bits. Set the environment variable JAX_ENABLE_X64=1 for sums of 64 bits.",
        stacklevel=4,
    )


@contextlib.contextmanager
def _whole_after_errors(estimator):
    """Context after whose errors an estimator has the attributes that it had before."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
