# SPDX-License-Identifier: Apache-2.0
"""scikit-learn estimators over arrays of features: classifiers without a backbone."""

from deepncm_tf.estimators.nearest_mean import NearestMeanClassifier

__all__ = ["NearestMeanClassifier"]
