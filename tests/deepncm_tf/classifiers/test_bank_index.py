# SPDX-License-Identifier: Apache-2.0
"""An index past the bank: refused, or without part in a graph."""

import keras
import numpy as np
import pytest
from helpers import to_numpy

from deepncm_tf.classifiers import NeighborhoodComponents


@pytest.mark.parametrize("past", [5, 2**31 - 1, 2**32 + 1])
def test_an_index_past_the_bank_takes_no_part_in_a_graph(past):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("of tf.function")
    import tensorflow as tf

    nca = NeighborhoodComponents(2, 5, margin=0.1, bank_labels=[0, 0, 1, 1, 0])
    nca.build((None, 2))
    x = tf.constant([[0.6, 0.8], [1.0, 0.0]])

    @tf.function
    def step(index):
        nca.update(x, [1, 1], index)
        return nca(x, index=index), nca.loss_weights([1, 1], 2, index)

    before = to_numpy(nca.bank).copy()
    logits, weights = step(tf.constant([past, -1], "int64"))
    np.testing.assert_array_equal(to_numpy(nca.bank), before)
    np.testing.assert_array_equal(to_numpy(nca.bank_labels), [0, 0, 1, 1, 0])
    np.testing.assert_array_equal(logits, nca(x))
    np.testing.assert_array_equal(weights, [1, 1])


@pytest.mark.bad_input
@pytest.mark.parametrize("past", [5, 2**32 + 1])
@pytest.mark.parametrize("make", [list, np.array, keras.ops.convert_to_tensor])
def test_an_index_past_the_bank_is_refused(make, past):
    nca = NeighborhoodComponents(2, 5)
    nca.build((None, 2))
    x, index = np.eye(2, dtype="float32"), make(np.array([0, past]))
    for function in (
        lambda: nca(x, index=index),
        lambda: nca.update(x, [0, 1], index),
        lambda: nca.loss_weights([0, 1], 2, index),
    ):
        with pytest.raises(ValueError, match=f"below `bank_size`=5, .* {past}"):
            function()
