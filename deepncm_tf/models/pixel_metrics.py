# SPDX-License-Identifier: Apache-2.0
"""Metrics of pixels that pass over those without a class."""

import keras
from keras import ops

from deepncm_tf.numerics import labels
from deepncm_tf.utils.arguments import as_label


@keras.saving.register_keras_serializable(package="deepncm_tf")
class PixelAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """Share of the pixels whose class is right, void ones left out.

    Args:
        ignore_class: Int, label of void pixels, or None.
        name: String, name of the metric.
        dtype: Dtype of the metric's state.
    """

    def __init__(self, ignore_class=None, name="accuracy", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.ignore_class = as_label("ignore_class", ignore_class)

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.convert_to_tensor(y_true)
        if self.ignore_class is not None:
            counted = ops.cast(y_true != self.ignore_class, self.dtype)
            if sample_weight is not None:
                sample_weight = ops.convert_to_tensor(sample_weight)
            sample_weight = labels.multiply_weights(counted, sample_weight)
        return super().update_state(y_true, y_pred, sample_weight)

    def get_config(self):
        return {"ignore_class": self.ignore_class, "name": self.name, "dtype": self.dtype}


def metrics(num_classes, ignore_class=None):
    """The metrics of segmentation: `mean_iou` and `accuracy`.

    Args:
        num_classes: Int.
        ignore_class: Int, label of void pixels, or None.
    """
    mean_iou = keras.metrics.MeanIoU(
        num_classes, ignore_class=ignore_class, sparse_y_pred=False, name="mean_iou"
    )
    return [mean_iou, PixelAccuracy(ignore_class)]


def class_ious(confusion):
    """Intersection over union of each class.

    Args:
        confusion: `(num_classes, num_classes)` array, numbers of pixels by their class and
            by what was predicted.

    Returns:
        `(num_classes,)` float64 array; NaN for a class that is neither.
    """
    import numpy as np

    confusion = np.asarray(confusion, "float64")
    hits = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)
