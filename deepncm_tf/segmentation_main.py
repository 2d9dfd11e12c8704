# SPDX-License-Identifier: Apache-2.0
"""Trains a method to tell the class of each pixel of an image.

A first try on textured shapes, which needs no download and takes about two minutes:

    python -m deepncm_tf.segmentation_main --dataset=shapes

Your own images, in PATH/images and masks of the same names, PNG files whose gray values are
class numbers, in PATH/masks:

    python -m deepncm_tf.segmentation_main --dataset=folder:PATH --weights=pretrained

The same command again goes on from the run's last checkpoint; a finished run is not
repeated.
"""

from deepncm_tf.utils import signals

if __name__ == "__main__":
    signals.end_program("segmentation_main")  # also while the rest is imported

import sys

from absl import flags as absl_flags

from deepncm_tf import flags
from deepncm_tf.runs.command_line import CommandLine

FLAGS = absl_flags.FlagValues()  # several command lines can be imported together
flags.define(flags.SEGMENTATION, FLAGS)

command_line = CommandLine("segmentation_main", __doc__, FLAGS, flags.SEGMENTATION)


def main(argv):
    command_line.train(argv, _config)


def _config():
    values = flags.given(FLAGS, flags.SEGMENTATION)
    return flags.resolve({"decoder": FLAGS.decoder, **values})


if __name__ == "__main__":
    main(command_line.parse(sys.argv))
