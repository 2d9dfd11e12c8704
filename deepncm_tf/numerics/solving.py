# SPDX-License-Identifier: Apache-2.0
"""Linear equations with sums of outer products, also of fewer samples than dimensions."""

from keras import ops

from deepncm_tf.numerics.precision import sum_dtype

ROUNDING = {"float64": 2.0**-53, "float32": 2.0**-24}


def least_ridge(moment):
    """What the diagonal needs so that rounding leaves no pivot of a Cholesky factorization
    at zero or below; 0 where the moment is 0.

    Args:
        moment: `(d, d)`, G, of which the matrix was made.
    """
    largest = ops.max(ops.diagonal(moment))
    return 4.0 * moment.shape[0] * ROUNDING[sum_dtype()] * largest


def add_ridge(matrix, ridge):
    """`matrix + ridge * I`."""
    return matrix + ridge * ops.eye(matrix.shape[0], dtype=matrix.dtype)


def solve_positive(matrix, right):
    """X with `matrix @ X = right`, by Cholesky: d^3 / 3 multiplications.

    Args:
        matrix: `(d, d)`, symmetric and positive definite.
        right: `(d, m)`.

    Returns:
        `(d, m)`.
    """
    factor = ops.cholesky(matrix)
    half = ops.solve_triangular(factor, right, lower=True)
    return ops.solve_triangular(ops.transpose(factor), half, lower=False)
