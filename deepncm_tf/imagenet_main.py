# SPDX-License-Identifier: Apache-2.0
"""Trains one method on ImageNet, or on other images by ImageNet's recipe.

ResNet-50 with sub-centroids, on the archives of ImageNet that TFDS has prepared:

    python -m deepncm_tf.imagenet_main --ncm=dnc

The same on a folder of pictures:

    python -m deepncm_tf.imagenet_main --ncm=dnc --dataset=folder:PATH

The run is one of cifar_main with other defaults: the network, 100 epochs with drops of the
rate after 30, 60, 80 and 90, crops of any size and proportions, weight decay that leaves
batch normalization out, tests on the middle 224 of 256 pixels. The same command again goes
on from the run's last checkpoint; a finished run is not repeated.
"""

from deepncm_tf.utils import signals

if __name__ == "__main__":
    signals.end_program("imagenet_main")  # also while the rest is imported

import sys

from absl import flags as absl_flags

from deepncm_tf import flags
from deepncm_tf.data import datasets
from deepncm_tf.runs.command_line import CommandLine

DEFAULTS = {
    "dataset": datasets.IMAGENET,
    "backbone": "resnet50",
    "augmentation": "imagenet",
    "middle": 0.875,
    "recipe": "imagenet",
    "batch_size": 256,
    "train_epochs": 100,
    "weight_decay": 1e-4,
    "decay_batch_norm": False,
    "gradient_clip": 0.0,
}

FLAGS = absl_flags.FlagValues()  # several command lines can be imported together
flags.define(flag_values=FLAGS, defaults=DEFAULTS)

command_line = CommandLine("imagenet_main", __doc__, FLAGS, task=flags.CLASSIFICATION)


def main(argv):
    command_line.train(argv, lambda: flags.resolve({**DEFAULTS, **flags.given(FLAGS)}))


if __name__ == "__main__":
    main(command_line.parse(sys.argv))
