# SPDX-License-Identifier: Apache-2.0
"""Linear classifiers that are solved from class statistics with second moments."""

import functools

from keras import ops

from deepncm_tf.classifiers.classifier import Classifier
from deepncm_tf.numerics import array_sums, statistics
from deepncm_tf.utils.arguments import as_positive_integer, check_number

NEVER = -1  # in place of the number of updates at the last refresh
LARGEST = 1e30  # of kernels, biases and logits: sums of them are finite in float32


class MomentClassifier(Classifier):
    """Base class of `LinearDiscriminant` and `RandomFeatures`.

    `update` moves the statistics, which is cheap; `refresh` solves for the kernel and the
    bias that the logits come from. `fit` refreshes at the end of each epoch, `adapt` at its
    end, and a model that is saved was refreshed before. Until the first refresh the kernel
    is that of the nearest class mean, and follows the samples.

    `solved` is the number of `updates` at the last refresh, -1 before.

    A subclass has `lift`, `first_solution` and `solve`; `folds` where it keeps the
    statistics of some samples apart, with `fold_weights`.

    Args:
        num_classes: Int, number of classes C.
        grid_bits: Int from 0 to 52, g: statistics are of features rounded to 2^-g.
        refresh_steps: Int >= 1, updates from one refresh to the next; or None.
        **kwargs: Those of `keras.layers.Layer`.
    """

    adapts_from = "statistics"
    unlearns = True
    folds = 1

    def __init__(self, num_classes, grid_bits, refresh_steps, **kwargs):
        super().__init__(num_classes, **kwargs)
        wanted = f"an integer from 0 to {statistics.MAX_GRID_BITS}"
        accepts = range(statistics.MAX_GRID_BITS + 1).__contains__
        check_number("grid_bits", grid_bits, wanted, accepts)
        self.grid_bits = int(grid_bits)
        self.refresh_steps = None
        if refresh_steps is not None:
            self.refresh_steps = as_positive_integer(
                "refresh_steps", refresh_steps, "or None"
            )
        self._has_warned_of_rounding = False

    def build(self, features_shape):
        super().build(features_shape)
        dimensions = self.lifted_dimensions(features_shape[-1])
        self._statistics = self.new_statistics(self.add_state, features_shape[-1])
        self.kernel = self.add_state("kernel", (dimensions, self.num_classes))
        self.bias = self.add_state("bias", (self.num_classes,))
        self.updates = self.add_state("updates", (), dtype="int32")
        self.solved = self.add_state("solved", (), dtype="int32", initializer=_never)

    def lifted_dimensions(self, dimensions):
        """Dimensions of what `lift` gives for features of so many."""
        return dimensions

    def lift(self, features):
        """What the statistics are of: `(n, d)` to `(n, D)`, of `sum_dtype`, on the grid."""
        return statistics.to_grid(features, self.grid_bits)

    @property
    def lifted_grid_bits(self):
        """g of what `lift` gives."""
        return self.grid_bits

    def fold_weights(self, features, weights):
        """The weights of the samples of each fold, a list of `(n, num_classes)`."""
        return [weights]

    def first_solution(self, sums):
        """As `solve`, the nearest class mean."""
        raise NotImplementedError

    def solve(self, folds):
        """Solves for the logits.

        Args:
            folds: List of `Sums`.

        Returns:
            Tuple of the values of `solution`.
        """
        raise NotImplementedError

    @property
    def solution(self):
        """The variables that `solve` gives, a tuple."""
        return self.kernel, self.bias

    def new_statistics(self, add_state, dimensions):
        return [
            statistics.ClassStatistics(
                add_state,
                self.num_classes,
                self.lifted_dimensions(dimensions),
                second_moment=True,
                prefix="held_out_" if fold else "",
            )
            for fold in range(self.folds)
        ]

    def batch_statistics(self, samples):
        takes_part = ops.all(ops.isfinite(samples.features), axis=-1, keepdims=True)
        weights = ops.where(takes_part, samples.class_weights, 0.0)
        features = ops.where(takes_part, samples.features, 0.0)
        lifted = self.lift(features)
        return [
            statistics.sums_of(lifted, of_fold, self.lifted_grid_bits, second_moment=True)
            for of_fold in self.fold_weights(features, weights)
        ]

    def array_statistics(self, features, labels):
        if self.folds > 1 or type(self).lift is not MomentClassifier.lift:
            return None
        sums = array_sums.class_sums(
            features,
            labels,
            self.num_classes,
            self.state_dtype,
            self.grid_bits,
            second_moment=True,
        )
        return None if sums is None else [sums]

    def read_statistics(self):
        return [stored.read() for stored in self._statistics]

    def write_statistics(self, folds):
        for stored, sums in zip(self._statistics, folds, strict=True):
            stored.assign(sums)
        self.solved.assign(NEVER)

    def take_classes(self, other, groups):
        super().take_classes(other, groups)
        self.updates.assign(ops.copy(other.updates))

    def is_exact(self):
        return all(
            statistics.is_exact(sums, self.lifted_grid_bits)
            for sums in self.read_statistics()
        )

    def _update(self, samples, apply):
        batch = self.batch_statistics(samples)
        folds = [
            statistics.add(sums, new)
            for sums, new in zip(self.read_statistics(), batch, strict=True)
        ]
        updates, solved = self.updates + 1, ops.copy(self.solved)
        first = self.first_solution(functools.reduce(statistics.add, folds))
        solution = self._between_refreshes(solved, first)
        if self.refresh_steps is not None:
            due = ops.equal(updates % self.refresh_steps, 0)
            # Only values come out of the branch: no assignment, no collective.
            solution = ops.cond(
                due, lambda: self._as_stored(self.solve(folds)), lambda: solution
            )
            solved = ops.where(due, updates, solved)
        for stored, sums in zip(self._statistics, folds, strict=True):
            stored.assign(sums, apply)
        for variable, value in zip(self.solution, solution, strict=True):
            self.assign_state(variable, value, apply)
        self.assign_state(self.updates, updates, apply)
        self.assign_state(self.solved, solved, apply)

    def _between_refreshes(self, solved, first):
        return tuple(
            ops.where(solved >= 0, ops.copy(variable), value)
            for variable, value in zip(self.solution, self._as_stored(first), strict=True)
        )

    def _as_stored(self, solution):
        return tuple(
            ops.cast(ops.clip(value, -LARGEST, LARGEST), variable.dtype)
            for variable, value in zip(self.solution, solution, strict=True)
        )

    def refresh(self):
        if ops.convert_to_numpy(self.solved) == ops.convert_to_numpy(self.updates):
            return
        folds = self.read_statistics()
        if not self._has_warned_of_rounding:
            self._has_warned_of_rounding = any(
                statistics.warn_where_rounded(sums, self.lifted_grid_bits) for sums in folds
            )
        solution = self._as_stored(self.solve(folds))
        for variable, value in zip(self.solution, solution, strict=True):
            variable.assign(value)
        self.solved.assign(ops.copy(self.updates))

    def save_own_variables(self, store):
        self.refresh()
        super().save_own_variables(store)

    def seen(self):
        return self.counts > 0

    @property
    def counts(self):
        """The weight of the samples of each class, `(num_classes,)`."""
        return functools.reduce(ops.add, [sums.counts for sums in self.read_statistics()])

    @property
    def means(self):
        """The means of what `lift` gives, `(num_classes, D)`; 0 without a sample."""
        sums = functools.reduce(statistics.add, self.read_statistics())
        means = ops.divide_no_nan(sums.totals, sums.counts[:, None])
        return ops.cast(ops.clip(means, -LARGEST, LARGEST), self.state_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "grid_bits": self.grid_bits,
            "refresh_steps": self.refresh_steps,
        }


def finite_logits(logits):
    """Logits between ±1e30; of features so large that products are no numbers, -1e30."""
    return ops.clip(ops.where(ops.isnan(logits), -LARGEST, logits), -LARGEST, LARGEST)


def _never(shape, dtype=None):
    return ops.full(shape, NEVER, dtype=dtype)
