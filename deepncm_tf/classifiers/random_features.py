# SPDX-License-Identifier: Apache-2.0
"""Ridge regression of the classes on random features."""

import math

import keras
from keras import ops

from deepncm_tf.classifiers.moment_classifier import MomentClassifier, finite_logits
from deepncm_tf.numerics import statistics
from deepncm_tf.numerics.precision import sum_dtype
from deepncm_tf.numerics.solving import add_ridge, least_ridge, solve_positive
from deepncm_tf.utils.arguments import as_positive_integer, check_number

RIDGES = tuple(10.0**k for k in range(-8, 9))
PROJECTION_BITS = 10
HELD_OUT = 5  # one sample of so many is held out


@keras.saving.register_keras_serializable(package="deepncm_tf")
class RandomFeatures(MomentClassifier):
    """Classifier by ridge regression on random features (RanPAC).

    With R a fixed `(d, M)` matrix of standard normal numbers, h = ReLU(x R), H the rows h
    of all samples and Y their classes, one-hot, the logits are

        h W,   W = (H^T H + ridge * I)^-1 H^T Y.

    H^T H and H^T Y are statistics that follow the samples in `update`; W is made by
    `refresh()`, which `fit` calls at the end of each epoch, `adapt` at its end and `save`
    before it saves. Until the first refresh W is that of the nearest class mean of h.

    Memory and time grow with M^2 and M^3: with M = 10,000 the two H^T H take 1.6 GB.

    Non-trainable variables: `projection` `(d, M)`, R; `counts`, `totals`, `moment`,
    `removed` and `extent` as in `LinearDiscriminant`, of h; the same as `held_out_counts`
    and so on of the samples held out, where the ridge is to be found; `kernel`
    `(M, num_classes)`, W; `bias`; `updates`, and `solved`, how many at the last refresh.

    Args:
        num_classes: Int, number of classes C.
        num_features: Int, number of random features M.
        ridge: Float > 0; or `"auto"` for that of 10^-8, 10^-7, ..., 10^8 with the smallest
            squared error on a fifth of the samples, which a sum of their features chooses,
            so that it does not depend on their order. W is then of all samples.
        seed: Int, of R. Models are merged only if it is the same.
        grid_bits: Int from 0 to 52, g: statistics are of features rounded to 2^-g, and
            of h, which is sqrt(d) times as large, rounded to a grid so much coarser.
        refresh_steps: Int >= 1, updates from one refresh to the next, where training should
            not wait for the end of the epoch; or None.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        features: `(batch, ..., d)`.
        training: Bool, whether classes without a sample compete.

    Output shape:
        `(batch, ..., num_classes)`.

    Deviations:
        The paper's M is 10,000, and its ridge is found anew for each task on a fifth of its
        samples; here on a fifth of all samples so far. A ridge is never smaller than what
        rounding needs.

    Reference:
        - McDonnell, Gong, Parvaneh, Abbasnejad, van den Hengel, "RanPAC: Random Projections
          and Pre-trained Models for Continual Learning", NeurIPS 2023, Eqs. 5-8.

    Example:
        >>> ranpac = RandomFeatures(num_classes=2, num_features=50)
        >>> x = keras.ops.convert_to_tensor([[0.0, 1.0], [0.0, 3.0], [4.0, 0.0]])
        >>> ranpac.update(x, [0, 0, 1])
        >>> ranpac.refresh()
        >>> [int(label) for label in keras.ops.argmax(ranpac(x), axis=-1)]
        [0, 0, 1]
    """

    def __init__(
        self,
        num_classes,
        num_features=2000,
        ridge="auto",
        seed=0,
        grid_bits=statistics.GRID_BITS,
        refresh_steps=None,
        **kwargs,
    ):
        super().__init__(num_classes, grid_bits, refresh_steps, **kwargs)
        self.num_features = as_positive_integer("num_features", num_features)
        if ridge != "auto":
            check_number("ridge", ridge, '"auto" or a positive number', lambda x: x > 0)
            ridge = float(ridge)
        wanted = "an integer of 64 bits"
        check_number("seed", seed, wanted, lambda x: abs(x) < 2**63 and x == int(x))
        self.ridge = ridge
        self.seed = int(seed)

    @property
    def folds(self):
        return 2 if self.ridge == "auto" else 1

    def build(self, features_shape):
        self._dimensions = features_shape[-1]
        super().build(features_shape)
        self.projection = self.add_state(
            "projection",
            (features_shape[-1], self.num_features),
            initializer=self._random_directions,
        )

    def _random_directions(self, shape, dtype=None):
        normal = keras.initializers.RandomNormal(stddev=1.0, seed=self.seed)
        return (
            ops.round(normal(shape, dtype) * 2.0**PROJECTION_BITS) * 2.0**-PROJECTION_BITS
        )

    def lifted_dimensions(self, dimensions):
        return self.num_features

    @property
    def lifted_grid_bits(self):
        return max(self.grid_bits - math.ceil(math.log2(self._dimensions) / 2), 0)

    def lift(self, features):
        # Both factors are on a grid: the products are the same in batches of any size.
        features = statistics.to_grid(features, self.grid_bits)
        projected = ops.matmul(features, ops.cast(self.projection, sum_dtype()))
        return statistics.to_grid(ops.relu(projected), self.lifted_grid_bits)

    def fold_weights(self, features, weights):
        if self.folds == 1:
            return [weights]
        on_grid = statistics.to_grid(features, self.grid_bits) * 2.0**self.grid_bits
        number = ops.sum(on_grid, axis=-1, keepdims=True)
        is_held_out = ops.mod(number, float(HELD_OUT)) == 0
        kept, held_out = (
            ops.where(is_held_out, 0.0, weights),
            ops.where(is_held_out, weights, 0.0),
        )
        return [kept, held_out]

    def take_classes(self, other, groups):
        super().take_classes(other, groups)
        self.projection.assign(ops.copy(other.projection))

    def compute_logits(self, features, training=False):
        features = ops.cast(features, self.state_dtype)
        projected = ops.relu(ops.matmul(features, self.projection))
        logits = finite_logits(ops.matmul(projected, self.kernel) + self.bias)
        return logits if training else self.hide_unseen(logits, self.seen())

    def first_solution(self, sums):
        means = ops.divide_no_nan(sums.totals, sums.counts[:, None])
        kernel = ops.transpose(means) / self.num_features
        return kernel, -0.5 * ops.sum(kernel * ops.transpose(means), axis=0)

    def solve(self, folds):
        ridge = self.ridge if len(folds) == 1 else _best_ridge(*folds)
        whole = folds[0] if len(folds) == 1 else statistics.add(*folds)
        return _regress(whole, ridge), ops.zeros((self.num_classes,), sum_dtype())

    def get_config(self):
        return {
            **super().get_config(),
            "num_features": self.num_features,
            "ridge": self.ridge,
            "seed": self.seed,
        }


def _regress(sums, ridge):
    """W, `(M, C)`."""
    least = least_ridge(sums.moment)
    least = ops.where(least > 0, least, 1.0)  # of no sample W is zero, with any ridge
    ridge = ops.maximum(ops.cast(ridge, sums.moment.dtype), least)
    return solve_positive(add_ridge(sums.moment, ridge), ops.transpose(sums.totals))


def _best_ridge(fitted, held_out):
    """The ridge with the smallest squared error on what was held out.

    Where there is nothing in one of the two parts, it is the mean square of h.
    """
    errors = []
    for ridge in RIDGES:
        solution = _regress(fitted, ridge)
        # ||H W - Y||^2, without the part that is the same for all.
        products = ops.matmul(held_out.moment, solution)
        products = products - 2.0 * ops.transpose(held_out.totals)
        errors.append(ops.sum(solution * products))
    best = ops.take(
        ops.convert_to_tensor(RIDGES, sum_dtype()), ops.argmin(ops.stack(errors))
    )
    moment = fitted.moment + held_out.moment
    has_both = ops.logical_and(ops.sum(fitted.counts) > 0, ops.sum(held_out.counts) > 0)
    return ops.where(has_both, best, ops.trace(moment) / moment.shape[0])
