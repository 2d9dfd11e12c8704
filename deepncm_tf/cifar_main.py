# SPDX-License-Identifier: Apache-2.0
"""Trains one method on CIFAR-10, CIFAR-100 or handwritten digits.

The published run with decay means:

    python -m deepncm_tf.cifar_main --ncm=decay

A first try, which needs no download and takes about a minute:

    python -m deepncm_tf.cifar_main --ncm=decay --dataset=digits

The same command again goes on after the last epoch that was completed; a finished run
is not repeated.
"""

from deepncm_tf.utils import signals

if __name__ == "__main__":
    signals.end_program("cifar_main")  # also while the rest is imported


from absl import app
from absl import flags as absl_flags

from deepncm_tf import flags, runs
from deepncm_tf.runs.command_line import CommandLine, quiet_tensorflow
from deepncm_tf.utils import environment

flags.define()
absl_flags.adopt_module_key_flags(flags)

command_line = CommandLine("cifar_main", __doc__)
parse = command_line.parse


def main(argv):
    command_line.refuse_arguments(argv)
    with command_line.errors(expected=()):
        config = flags.resolve(flags.given(absl_flags.FLAGS))
        folder = runs.RunFolder(config)
        folder.check()
        begun_with = folder.begun_with()

    quiet_tensorflow()
    if begun_with is not None:
        environment.use(begun_with)
    from deepncm_tf.runs import training

    with command_line.errors(expected=()):
        training.run(config)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
