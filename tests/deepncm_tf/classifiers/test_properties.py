# SPDX-License-Identifier: Apache-2.0
"""Any batches, any labels, any precision: the state is finite and the counts add up."""

import keras
import numpy as np
from helpers import to_numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from methods import TABLE

C, D = 3, 2
POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")

numbers = st.floats(-60000, 60000, width=16)
batch = st.lists(
    st.tuples(
        st.tuples(*[numbers] * D),
        st.integers(-2, C + 2),  # labels outside 0..C-1 take no part
        st.floats(0, 100, width=16),
    ),
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(
    method=st.sampled_from(TABLE),
    policy=st.sampled_from(POLICIES),
    batches=st.lists(batch, min_size=1, max_size=4),
    weighted=st.booleans(),
)
def test_any_batches(method, policy, batches, weighted):
    cls, arguments = method
    classifier = cls(C, dtype=policy, **arguments)
    classifier.build((None, D))
    expected = np.zeros(C)
    for samples in batches:
        x = np.array([x for x, _, _ in samples], "float16").reshape(-1, D)
        y = np.array([y for _, y, _ in samples], "int32")
        w = np.array([w for _, _, w in samples], "float32")
        dtype = "float32" if policy == "float32" else policy.removeprefix("mixed_")
        x = keras.ops.cast(x, dtype)
        for training in (True, False):
            assert np.isfinite(to_numpy(classifier(x, training=training))).all()
        index = np.arange(len(x), dtype="int32")
        classifier.update(x, y, index, w if weighted else None)
        for label, weight in zip(y, w if weighted else np.ones(len(y)), strict=True):
            if 0 <= label < C:
                expected[label] += weight
    for variable in classifier.variables:
        assert np.isfinite(to_numpy(variable)).all()
    if hasattr(classifier, "counts"):
        counts = to_numpy(classifier.counts)
        if "condensation_steps" in arguments:  # condensed counts are one sample
            np.testing.assert_array_equal(counts > 0, expected > 0)
        else:
            np.testing.assert_allclose(counts, expected, rtol=1e-3, atol=1e-6)
        np.testing.assert_array_equal(to_numpy(classifier.seen()), counts > 0)
