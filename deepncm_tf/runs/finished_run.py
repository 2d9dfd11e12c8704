# SPDX-License-Identifier: Apache-2.0
"""A finished run, opened for what is asked of it afterwards: model, data, features."""

import pathlib
import warnings

import numpy as np

from deepncm_tf import flags
from deepncm_tf.data import bank_files
from deepncm_tf.runs.config import read_config

BATCH = 128
SAMPLE = 16  # rows of a bank that are computed again, to see that they are this model's


def check_neighbours(flag, number, available):
    """Raises a ValueError where a flag asks for more neighbours than there are images."""
    if number > available:
        raise ValueError(
            f"--{flag} must be at most the number of training images, {available}. "
            f"Received: --{flag}={number}"
        )


def embed(model, images, scaling, verbose=0):
    """Features of a model, `(n, d)` float32.

    Of an `ImageSource` no more than a few batches are in memory.

    Args:
        model: `DeepNCM`.
        images: As from `datasets.load`.
        scaling: String, a name in `pipeline.SCALINGS`.
        verbose: 1 for a progress bar, 0 for none.

    Raises:
        ValueError: If an image cannot be read.
    """
    return features_by(model.embed, images, scaling, verbose)


def features_by(function, images, scaling, verbose=0):
    """As `embed`, by another function of a dataset of `({"image", "index"}, label)`."""
    import tensorflow as tf

    from deepncm_tf.data import pipeline
    from deepncm_tf.data.image_sources import ImageSource

    labels = np.zeros(len(images), "int32")  # of no use
    dataset = pipeline.evaluation_dataset(images, labels, BATCH, scaling)
    steps = pipeline.steps_per_epoch(len(images), BATCH)
    if isinstance(images, ImageSource):
        images.failure = None
    try:
        features = function(dataset, verbose=verbose, steps=steps)
    except tf.errors.OpError:
        failure = getattr(images, "failure", None)
        if failure is None:
            raise
        raise failure from None
    return features.astype("float32")  # of --dtype=bf16 or fp16, too


class FinishedRun:
    """A finished run.

    Args:
        model_dir: Path of the run's folder.
        data_dir: Folder of TFDS datasets, or None for TFDS's own choice.

    Attributes:
        config: Dictionary of the run's flags.
        model: The `DeepNCM`.
        splits: As from `datasets.load`; the images as they are, uint8, an array or made
            when they are asked for.
        class_names: List of strings.

    Raises:
        RunError, DatasetNotFoundError: What stands in the way.
    """

    def __init__(self, model_dir, data_dir=None):
        self.config = {**read_config(model_dir), "data_dir": data_dir}
        from deepncm_tf.data import datasets
        from deepncm_tf.runs import images, model_file, pictures

        self.path = pathlib.Path(model_dir)
        dataset, label = self.config["dataset"], self.config["label"]
        classes = flags.classes(self.config)
        self.splits = images.load(self.config, data_dir)
        pictures.check(self.path, self.config, self.splits)
        self.class_names = datasets.class_names(dataset, label, data_dir)
        if classes is not None:
            self.class_names = [self.class_names[c] for c in classes]
        self.model = model_file.load(self.path, self.config)

    def embed(self, images):
        """Features of images as they are: `(n, d)` float32."""
        return embed(self.model, images, flags.scaling(self.config))

    def backbone_features(self, images):
        """Features before the embedding, `(n, d)` float32, of images as they are."""
        from deepncm_tf.models.embedding import FeatureModel

        backbone = FeatureModel(self.model.backbone, None)

        def predict(dataset, **kwargs):
            return backbone.predict(dataset.map(lambda x, _: x["image"]), **kwargs)

        return features_by(predict, images, flags.scaling(self.config))

    def calibrate(self, alpha, score, first_test=0):
        """Learns from held-out images how like the known classes their images are.

        Args:
            alpha: Float in (0, 1), share of images of known classes that may be rejected.
            score: String, as for `DeepNCM.calibrate`.
            first_test: Int, the first test image that counts; of a run with
                `--validation_fraction` those held out count instead.

        Returns:
            `Calibration`.

        Raises:
            ValueError: If there are too few images for alpha.
        """
        from deepncm_tf.models import rejection

        images, labels = self.splits.get("val", self.splits["test"])
        if "val" not in self.splits:
            images, labels = images[first_test:], labels[first_test:]
        fewest = rejection.fewest_images(alpha)
        if len(images) < fewest:
            raise ValueError(
                f"--alpha={alpha} needs {fewest} images that are not explained, of the "
                "test images or of a run's with --validation_fraction; --num_queries "
                f"leaves more. Received: {len(images)} images"
            )
        features = self.embed(images)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of few images of a class: no sets are shown
            return rejection.calibrate_features(
                self.model.classifier, features, labels, score, alpha
            )

    def read_bank(self, path, dimensions):
        """A bank file of features of this run's training images.

        Args:
            path: As for `bank_files.read_bank`.
            dimensions: Int, of the model's features.

        Returns:
            `(features, labels, ids)`.

        Raises:
            ValueError: If it has other dimensions, images, labels or features.
        """
        features, labels, ids = bank_files.read_bank(path)
        if features.shape[1] != dimensions:
            raise ValueError(
                f"--bank must have features of {dimensions} dimensions, the model's. "
                f"Received: {features.shape[1]} dimensions in {path}"
            )
        known = self.splits["train"][1]
        if ids.max(initial=-1) >= len(known) or (known[ids] != labels).any():
            raise ValueError(
                f"--bank must be of the {len(known)} training images of this run and their "
                f"labels. Received: other ids or labels in {path}"
            )
        sample = np.linspace(0, len(ids) - 1, min(len(ids), SAMPLE), dtype="int64")
        expected = self.embed(self.splits["train"][0][ids[sample]])
        if not np.allclose(features[sample], expected, rtol=1e-2, atol=1e-2):
            raise ValueError(
                "--bank must be of this run's model: see `python -m deepncm_tf.features`. "
                f"Received: other features of the same images in {path}"
            )
        return features, labels, ids

    def training_features(self):
        """Features of the training images, `(n, d)` float32."""
        return self.embed(self.splits["train"][0])

    def unit_features(self, images):
        """Features of images as they are, of unit length: `(n, d)` float32."""
        return np.asarray(self.model.classifier.unit_features(self.embed(images)))
