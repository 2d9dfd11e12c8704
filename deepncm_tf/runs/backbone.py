# SPDX-License-Identifier: Apache-2.0
"""The backbone of a run where it has a name, and how much a model learns."""

import math

from deepncm_tf import backbones, flags, runs
from deepncm_tf.data import datasets
from deepncm_tf.utils import files


def build(config):
    """The network of `--backbone`, from images to features.

    Args:
        config: Dictionary of flags as from `flags.resolve`.

    Returns:
        A `keras.Model`.

    Raises:
        RunError: If it cannot be built, or its weights cannot be read.
    """
    name, size = config["backbone"], flags.image_size(config)
    own = {}
    if backbones.find(name).is_resnet:
        momentum = datasets.recipe(config["dataset"]).bn_momentum
        own = {"version": config["resnet_version"], "bn_momentum": momentum}
    try:
        network = backbones.get(name, (size, size, 3), config["weights"], **own)
    except OSError as error:
        raise runs.RunError(f"--weights: {files.describe(error)}") from error
    except ValueError as error:
        raise runs.RunError(str(error)) from error
    network.trainable = is_trained(config)
    return network


def is_trained(config):
    """Whether a run trains its network at some time: the optimizer has variables for it."""
    return not config["freeze"] or config.get("unfreeze_after") is not None


def print_size(model):
    """Says how many numbers a model learns, without and with weights of the classes.

    Args:
        model: A built `DeepNCM` or `Segmenter`.
    """
    shapes = [v.shape for part in model.trained_parts for v in part.trainable_variables]
    features = sum(math.prod(shape) for shape in shapes)
    head = (model.features_shape[-1] + 1) * model.classifier.num_classes
    print(
        f"Learnable parameters: {features:,} of the features, {features + head:,} with a "
        "softmax head"
    )
