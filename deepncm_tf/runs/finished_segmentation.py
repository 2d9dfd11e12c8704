# SPDX-License-Identifier: Apache-2.0
"""A finished run of segmentation, opened for what is asked of it afterwards."""

import pathlib

import numpy as np

from deepncm_tf import flags
from deepncm_tf.data import pipeline, segmentation, segmentation_sets
from deepncm_tf.numerics import resizing
from deepncm_tf.runs import model_file, pictures
from deepncm_tf.runs.config import read_config

BATCH = 8  # images at a time


class FinishedSegmentation:
    """A finished run of segmentation.

    Args:
        model_dir: Path of the run's folder.
        data_dir: Folder of TFDS datasets, or None for TFDS's own choice.

    Attributes:
        config: Dictionary of the run's flags.
        model: The `Segmenter`.
        splits: As from `segmentation.load`.
        class_names: List of strings.
        shape: `(height, width)` of the images.

    Raises:
        RunError, DatasetNotFoundError: What stands in the way.
    """

    def __init__(self, model_dir, data_dir=None):
        self.config = {
            **read_config(model_dir, tasks=(flags.SEGMENTATION,)),
            "data_dir": data_dir,
        }
        self.path = pathlib.Path(model_dir)
        self.shape = segmentation_sets.as_shape(self.config["image_shape"])
        self.splits = segmentation.load(self.config["dataset"], self.shape, data_dir)
        pictures.check(self.path, self.config, self.splits)
        self.class_names = segmentation.class_names(self.config["dataset"], data_dir)
        self.model = model_file.load(self.path, self.config)

    def predict(self, images):
        """Features and classes of pixels: `(n, h, w, d)` and `(n, height, width)`."""
        features, classes = [], []
        for start in range(0, len(images), BATCH):
            scale = pipeline.SCALINGS[flags.scaling(self.config)]
            logits, part = self.model(
                scale(images[start : start + BATCH]), return_features=True
            )
            classes.append(np.asarray(logits).argmax(axis=-1))
            features.append(np.asarray(part, "float32"))
        return np.concatenate(features), np.concatenate(classes)

    def labels_of_features(self, masks):
        """The labels at the centres of features: `(n, h, w)`."""
        return np.asarray(resizing.at_size(masks, self.model.features_shape[1:3]))
