# SPDX-License-Identifier: Apache-2.0
"""Linear discriminant analysis: class means, seen through the covariance within classes."""

import keras
from keras import ops

from deepncm_tf.classifiers.moment_classifier import MomentClassifier, finite_logits
from deepncm_tf.numerics.solving import add_ridge, least_ridge, solve_positive
from deepncm_tf.numerics.statistics import GRID_BITS, to_grid
from deepncm_tf.utils.arguments import check_choice, check_number


@keras.saving.register_keras_serializable(package="deepncm_tf")
class LinearDiscriminant(MomentClassifier):
    """Linear discriminant analysis with class statistics that follow the samples.

    With n_c and m_c the number and the mean of the samples of class c, G the sum of all
    x x^T and N the number of all samples,

        Sigma = (G - sum over c of n_c m_c m_c^T) / N,
        Sigma_s = (1 - shrinkage) * Sigma + shrinkage * tr(Sigma) / d * I,

    the logit of class c for feature x is, up to what is the same for all classes,

        m_c^T Lambda x - 1/2 m_c^T Lambda m_c + log pi_c,   Lambda = Sigma_s^-1.

    The statistics follow the samples in `update`; Lambda and what follows from it is made
    by `refresh()`, which `fit` calls at the end of each epoch, `adapt` at its end and
    `save` before it saves. Until the first refresh Lambda is I, and means move. Where all
    samples are at the means of their classes, as with one of each, Lambda is I as well.

    Non-trainable variables: `counts` `(num_classes,)`, `totals` `(num_classes, d)` and
    `moment` `(d, d)`, in float64 of features on a grid, so that they do not depend on
    order, batches and replicas; `removed` and `extent`, see `numerics.statistics`;
    `kernel` `(d, num_classes)`, `bias` `(num_classes,)` and `center` `(d,)`, which the
    logits come from; `updates`, and `solved`, their number at the last refresh.

    Args:
        num_classes: Int, number of classes C.
        shrinkage: Float in (0, 1], weight of a multiple of I in the covariance.
        priors: `"samples"` for pi_c = n_c / N, or `"uniform"` for 1 / C.
        grid_bits: Int from 0 to 52, g: statistics are of features rounded to 2^-g.
        refresh_steps: Int >= 1, updates from one refresh to the next, where training should
            not wait for the end of the epoch; or None.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        features: `(batch, ..., d)`.
        training: Bool, whether classes without a sample compete.

    Output shape:
        `(batch, ..., num_classes)`.

    Deviations:
        The published shrinkage of 1e-4 * I is too small for few samples. The official code
        of deep SLDA depends on the order of the samples, and is right for batches of one
        only; these statistics are exact.

    Reference:
        - Hayes, Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant
          Analysis", CVPR workshop 2020, Eqs. 1-3.
        - Panos, Kobe, Reino, Aljundi, Turner, "First Session Adaptation", ICCV 2023.

    Example:
        >>> lda = LinearDiscriminant(num_classes=2, shrinkage=0.5)
        >>> x = keras.ops.convert_to_tensor([[0.0, 1.0], [0.0, 3.0], [4.0, 0.0]])
        >>> lda.update(x, [0, 0, 1])
        >>> lda.refresh()
        >>> [int(label) for label in keras.ops.argmax(lda(x), axis=-1)]
        [0, 0, 1]
    """

    def __init__(
        self,
        num_classes,
        shrinkage=0.1,
        priors="samples",
        grid_bits=GRID_BITS,
        refresh_steps=None,
        **kwargs,
    ):
        super().__init__(num_classes, grid_bits, refresh_steps, **kwargs)
        check_number("shrinkage", shrinkage, "a number in (0, 1]", lambda x: 0 < x <= 1)
        check_choice("priors", priors, ("samples", "uniform"))
        self.shrinkage = float(shrinkage)
        self.priors = priors

    def build(self, features_shape):
        super().build(features_shape)
        self.center = self.add_state("center", (features_shape[-1],))

    @property
    def solution(self):
        return self.kernel, self.bias, self.center

    def compute_logits(self, features, training=False):
        features = ops.cast(features, self.state_dtype) - self.center
        logits = finite_logits(ops.matmul(features, self.kernel) + self.bias)
        return logits if training else self.hide_unseen(logits, self.seen())

    def first_solution(self, sums):
        center, offsets = _means(sums)
        return self._linear(sums, center, offsets, ops.transpose(offsets))

    def solve(self, folds):
        (sums,) = folds
        center, offsets = _means(sums)
        covariance = self._covariance(sums)
        return self._linear(
            sums, center, offsets, solve_positive(covariance, ops.transpose(offsets))
        )

    def take_classes(self, other, groups):
        """As in the base; classes that are gone leave what varied within them behind.

        Their means cannot be taken from G later: it is done now, on the grid.
        """
        super().take_classes(other, groups)
        (before,), (after,) = other.read_statistics(), self.read_statistics()
        kept = {label for group in groups for label in group}
        gone = [c for c in range(other.num_classes) if c not in kept]
        if gone:
            totals = ops.take(before.totals, gone, axis=0)
            counts = ops.take(before.counts, gone, axis=0)
            means = ops.divide_no_nan(totals, counts[:, None])
            between = to_grid(ops.matmul(ops.transpose(totals), means), 2 * self.grid_bits)
            self.write_statistics([after._replace(moment=after.moment - between)])

    def _covariance(self, sums):
        """Sigma_s, `(d, d)`; I where there is nothing that varies."""
        total = ops.sum(sums.counts) + sums.removed
        means = ops.divide_no_nan(sums.totals, sums.counts[:, None])
        between = ops.matmul(ops.transpose(sums.totals), means)
        sigma = ops.divide_no_nan(sums.moment - between, total)
        variance = ops.maximum(ops.trace(sigma) / sigma.shape[0], 0.0)
        least = ops.divide_no_nan(least_ridge(sums.moment), total)
        sigma = (1.0 - self.shrinkage) * sigma
        # Where nothing but rounding varies, the ridge would be of its size.
        varies = variance > least
        shrunk = add_ridge(sigma, ops.maximum(self.shrinkage * variance, least))
        return ops.where(varies, shrunk, ops.eye(sigma.shape[0], dtype=sigma.dtype))

    def _linear(self, sums, center, offsets, kernel):
        """Kernel, bias and centre, of Lambda (m_c - m) in the columns of the kernel."""
        bias = -0.5 * ops.sum(ops.transpose(offsets) * kernel, axis=0)
        if self.priors == "samples":
            total = ops.sum(sums.counts)
            shares = ops.where(sums.counts > 0, sums.counts, 1.0)  # as if it had one
            bias = bias + ops.log(shares) - ops.log(ops.where(total > 0, total, 1.0))
        return kernel, bias, center

    def get_config(self):
        return {
            **super().get_config(),
            "shrinkage": self.shrinkage,
            "priors": self.priors,
        }


def _means(sums):
    """The mean of all samples, `(d,)`, and m_c - m, `(C, d)`; 0 without a sample.

    Distances from a mean are the same from anywhere, and in float32 they keep their digits
    near it.
    """
    center = ops.divide_no_nan(ops.sum(sums.totals, axis=0), ops.sum(sums.counts))
    means = ops.divide_no_nan(sums.totals, sums.counts[:, None])
    return center, ops.where(sums.counts[:, None] > 0, means - center, 0.0)
