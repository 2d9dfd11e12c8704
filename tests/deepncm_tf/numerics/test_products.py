# SPDX-License-Identifier: Apache-2.0
"""Symmetric products, of which half is computed."""

import numpy as np
import pytest
from helpers import to_numpy

from deepncm_tf.numerics import products


@pytest.mark.parametrize("dimensions", [1, 5, 6, 7, 12, 13])
def test_the_product(dimensions, monkeypatch):
    monkeypatch.setattr(products, "WIDTH", 3)
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, size=(20, dimensions)).astype("float32")
    weights = rng.integers(4, size=(20, 1)).astype("float32")
    found = to_numpy(products.symmetric_product(x * weights, x))
    np.testing.assert_array_equal(found, (x * weights).T @ x)
    x = rng.normal(size=(20, dimensions)).astype("float32")
    found = to_numpy(products.symmetric_product(x, x))
    np.testing.assert_allclose(found, x.T @ x, rtol=1e-5, atol=1e-5)
    if dimensions >= 6:
        np.testing.assert_array_equal(found, found.T)
