# SPDX-License-Identifier: Apache-2.0
"""The dtype of what is added up over all samples of a run."""

import keras


def sum_dtype():
    """float64, in which whole numbers are exact up to 2^53, where float32 stops at 2^24.

    On JAX that is the widest dtype it has been told to use, float32 by default.
    """
    if keras.backend.backend() == "jax":
        import jax

        return jax.dtypes.canonicalize_dtype("float64").name
    return "float64"
