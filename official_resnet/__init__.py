# SPDX-License-Identifier: Apache-2.0
"""The ResNets of the official TensorFlow models and their training recipe."""

from official_resnet.imagenet import imagenet_resnet
from official_resnet.normalization import BatchNormalization
from official_resnet.recipe import learning_rate_schedule, optimizer
from official_resnet.resnet import cifar_resnet

__all__ = [
    "BatchNormalization",
    "cifar_resnet",
    "imagenet_resnet",
    "learning_rate_schedule",
    "optimizer",
]
