# SPDX-License-Identifier: Apache-2.0
"""Trains one method on CIFAR-10, CIFAR-100 or handwritten digits.

The published run with decay means:

    python -m deepncm_tf.cifar_main --ncm=decay

A first try, which needs no download and takes about half a minute:

    python -m deepncm_tf.cifar_main --ncm=decay --dataset=digits

The same command again goes on from the run's last checkpoint; a finished run is not
repeated.
"""

from deepncm_tf.utils import signals

if __name__ == "__main__":
    signals.end_program("cifar_main")  # also while the rest is imported


from absl import app
from absl import flags as absl_flags

from deepncm_tf import flags
from deepncm_tf.runs.command_line import CommandLine

flags.define()
absl_flags.adopt_module_key_flags(flags)

command_line = CommandLine("cifar_main", __doc__, task=flags.CLASSIFICATION)
parse = command_line.parse


def main(argv):
    command_line.train(argv, lambda: flags.resolve(flags.given(absl_flags.FLAGS)))


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
