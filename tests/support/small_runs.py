# SPDX-License-Identifier: Apache-2.0
"""Runs that take a second: few digits, a small network."""

import numpy as np
from helpers import small_backbone

from deepncm_tf import flags
from deepncm_tf.data import datasets
from deepncm_tf.data.image_sources import ImageSource
from deepncm_tf.runs import training


def use_few_digits(patch):
    """Every split's first images: 70 for training are batches of 32, 32 and 6."""
    load = datasets.load

    def load_few(*args, **kwargs):
        sizes = {"train": 70, "val": 20, "test": 20}
        splits = load(*args, **kwargs)
        return {k: (_first(x, sizes[k]), y[: sizes[k]]) for k, (x, y) in splits.items()}

    patch.setattr(datasets, "load", load_few)


def _first(images, count):
    """Images that are made on demand stay so."""
    lazy = isinstance(images, ImageSource)
    return images.take(np.arange(len(images))[:count]) if lazy else images[:count]


def use_small_network(patch):
    """A network that is traced in a fraction of ResNet-8's time."""

    def network(depth, version, input_shape, bn_momentum):
        return small_backbone(input_shape, normalize=True)

    patch.setattr(training, "cifar_resnet", network)


FEW_FEATURES = {"ranpac": {"random_features": 20}}


def config(folder, **values):
    """Flags of three epochs on the digits, if not given otherwise."""
    values = {"dataset": "digits", "train_epochs": 3, **values}
    values = {**FEW_FEATURES.get(values.get("ncm"), {}), **values}
    return flags.resolve({**values, "model_dir": str(folder)})
