# SPDX-License-Identifier: Apache-2.0
"""Metrics of nearest-mean classification."""

import keras
from keras import ops

from deepncm_tf.classifiers import other_models
from deepncm_tf.numerics.precision import sum_dtype


class MetricOfGlobalBatch(keras.metrics.Metric):
    """Base of the metrics that every replica updates alike, with the global batch."""

    def add_state(self, name, shape=()):
        """Adds a variable of zeros, of which any replica's value is the value."""
        return self.add_variable(
            shape, "zeros", sum_dtype(), aggregation="only_first_replica", name=name
        )


@keras.saving.register_keras_serializable(package="deepncm_tf")
class RelativeMeanDistance(MetricOfGlobalBatch):
    """How far the class means are from the means of the batch.

    For each batch, over the classes c that are in it,

        rmd = average of ||S_c / n_c - m_c||^2 / ||S_c / n_c||^2

    with S_c the sum and n_c the number of the samples of class c, and m_c the class mean
    of before the batch. The result is the average over batches. 0 means that the class
    means follow the features exactly; 1 is what means at the origin give. A class whose
    samples have their mean at the origin has no relative distance, and is not in the
    average; a batch with no other class is no batch.

    Args:
        name: String, name of the metric.
        dtype: Dtype of the metric's state.

    Deviations:
        The official code divides a `(C,)` by a `(C, 1)` and so averages over all pairs of
        classes; this is the distance that the paper defines.

    Example:
        >>> metric = RelativeMeanDistance()
        >>> metric.update_state([[2.0, 0.0]], [1.0], means=[[1.0, 0.0]])
        >>> float(metric.result())
        0.25
    """

    def __init__(self, name="rmd", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_state("total")
        self.count = self.add_state("count")

    def update_state(self, class_sums, class_counts, means):
        """Adds one batch.

        Args:
            class_sums: `(num_classes, d)`, sum of the batch's features of each class;
                with replicas, of the global batch.
            class_counts: `(num_classes,)`, number of samples behind each sum.
            means: `(num_classes, d)`, class means of before the batch.
        """
        if not other_models.is_carried(self.total):
            return
        # In float64 no square of a float32 overflows or vanishes.
        class_sums, class_counts, means = (
            ops.cast(values, sum_dtype()) for values in (class_sums, class_counts, means)
        )

        batch_means = ops.divide_no_nan(class_sums, class_counts[:, None])  # (C, d)
        distances = ops.sum(ops.square(batch_means - means), axis=-1)  # (C,)
        norms = ops.sum(ops.square(batch_means), axis=-1)
        present = ops.cast(ops.logical_and(class_counts > 0, norms > 0), norms.dtype)
        num_present = ops.sum(present)
        total = ops.sum(present * ops.divide_no_nan(distances, norms))
        self.total.assign(self.total + ops.divide_no_nan(total, num_present))
        self.count.assign(self.count + ops.cast(num_present > 0, norms.dtype))

    def result(self):
        average = ops.divide_no_nan(self.total, self.count)
        return ops.cast(ops.minimum(average, 1e38), self.dtype)  # finite in float32


@keras.saving.register_keras_serializable(package="deepncm_tf")
class Occupancy(MetricOfGlobalBatch):
    """How evenly the samples of a class are spread over its sub-centroids.

    The entropy of the shares, divided by its largest value, averaged over the classes that
    had samples: 1 where all sub-centroids have as many, 0 where one has all of them. A
    class with one sub-centroid counts as 1.

    Args:
        sizes: List of ints, number of sub-centroids of each class.
        name: String, name of the metric.
        dtype: Dtype of the metric's state.

    Example:
        >>> metric = Occupancy(sizes=[2, 2])
        >>> metric.update_state([[5.0, 5.0], [3.0, 0.0]])
        >>> float(metric.result())
        0.5
    """

    def __init__(self, sizes, name="occupancy", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.sizes = list(sizes)
        self.counts = self.add_state("counts", (len(self.sizes), max(self.sizes)))

    def update_state(self, counts):
        """Adds samples.

        Args:
            counts: `(num_classes, K)`, number of samples of each sub-centroid; with
                replicas, of the global batch.
        """
        if other_models.is_carried(self.counts):
            self.counts.assign(self.counts + ops.cast(counts, self.counts.dtype))

    def result(self):
        counts = ops.convert_to_tensor(self.counts)
        totals = ops.sum(counts, axis=-1)
        shares = ops.cast(ops.divide_no_nan(counts, totals[:, None]), self.dtype)
        entropy = -ops.sum(ops.where(shares > 0, shares * ops.log(shares + 1e-30), 0), -1)
        sizes = ops.convert_to_tensor(self.sizes, self.dtype)
        evenness = ops.where(sizes > 1, entropy / ops.log(ops.maximum(sizes, 2.0)), 1.0)
        present = ops.cast(totals > 0, self.dtype)
        return ops.divide_no_nan(ops.sum(present * evenness), ops.sum(present))

    def get_config(self):
        return {**super().get_config(), "sizes": self.sizes}


@keras.saving.register_keras_serializable(package="deepncm_tf")
class DeadSubCentroids(Occupancy):
    """Number of sub-centroids without a sample, in classes that had samples.

    Args:
        sizes: List of ints, number of sub-centroids of each class.
        name: String, name of the metric.
        dtype: Dtype of the metric's state.

    Example:
        >>> metric = DeadSubCentroids(sizes=[2, 2])
        >>> metric.update_state([[5.0, 5.0], [3.0, 0.0]])
        >>> float(metric.result())
        1.0
    """

    def __init__(self, sizes, name="dead", dtype=None):
        super().__init__(sizes, name=name, dtype=dtype)

    def result(self):
        counts = ops.convert_to_tensor(self.counts)
        sizes = ops.convert_to_tensor(self.sizes, self.dtype)
        alive = ops.sum(ops.cast(counts > 0, self.dtype), axis=-1)
        present = ops.cast(ops.sum(counts, axis=-1) > 0, self.dtype)
        return ops.sum(present * (sizes - alive))
