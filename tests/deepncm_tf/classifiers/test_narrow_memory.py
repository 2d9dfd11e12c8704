# SPDX-License-Identifier: Apache-2.0
"""A memory of features in the dtype that a mixed policy computes in."""

import keras
import numpy as np
import pytest
from helpers import to_numpy

from deepncm_tf.classifiers import SubCentroids

C, K, D, BATCH = 3, 2, 16, 24
NARROW = pytest.mark.parametrize(
    ("policy", "dtype"), [("mixed_bfloat16", "bfloat16"), ("mixed_float16", "float16")]
)


def head(policy, **kwargs):
    keras.utils.set_random_seed(0)
    arguments = {"momentum": 0.5, "memory_size": C * 40, "feature_norm": None}
    classifier = SubCentroids(C, K, dtype=policy, **arguments, **kwargs)
    classifier.build((None, D))
    return classifier


def batches(count=6):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(C, K, D))
    for _ in range(count):
        y, part = rng.integers(C, size=BATCH), rng.integers(K, size=BATCH)
        yield (centres[y, part] + 0.3 * rng.normal(size=(BATCH, D))).astype("float32"), y


@NARROW
@pytest.mark.parametrize("clustering", ["sinkhorn", "kmeans"])
def test_steps_are_those_of_a_wide_memory_but_for_rounding(policy, dtype, clustering):
    narrow, wide = (
        head(policy, clustering=clustering),
        head("float32", clustering=clustering),
    )
    for x, y in batches():
        logits = wide(x, training=True)  # rounding is not to say which sample is correct
        for classifier in (narrow, wide):
            classifier.update(x, y, logits=logits)
    kept = {v.name: v.dtype for v in narrow.variables if v.name == "memory_features"}
    assert kept == {"memory_features": dtype}
    assert narrow.sub_centroids.dtype == wide.sub_centroids.dtype == "float32"
    cosines = np.sum(
        to_numpy(narrow.unit_sub_centroids()) * to_numpy(wide.unit_sub_centroids()), axis=-1
    )
    assert cosines.min() > 1 - 1e-4
    np.testing.assert_array_equal(to_numpy(narrow.count), to_numpy(wide.count))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of tf.function")
@NARROW
def test_no_step_has_the_memory_in_a_wider_dtype(policy, dtype):
    import tensorflow as tf

    classifier = head(policy)
    step = tf.function(classifier.update)
    x, y = next(batches())
    graph = step.get_concrete_function(tf.constant(x), tf.constant(y)).graph
    tensors = [tensor for op in graph.get_operations() for tensor in op.outputs]
    large = {
        t.dtype.name for t in tensors if t.shape.rank and t.shape.num_elements() == 120 * D
    }
    assert large == {dtype}
