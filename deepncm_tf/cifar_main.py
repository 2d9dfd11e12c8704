# SPDX-License-Identifier: Apache-2.0
"""Trains one method on CIFAR-10, CIFAR-100 or handwritten digits.

The published run with decay means:

    python -m deepncm_tf.cifar_main --ncm=decay

A first try, which needs no download and takes about a minute:

    python -m deepncm_tf.cifar_main --ncm=decay --dataset=digits

The same command again goes on after the last epoch that was completed; a finished run
is not repeated.
"""

import errno
import os

from absl import app, logging
from absl import flags as absl_flags

from deepncm_tf import flags, runs
from deepncm_tf.command_line import USAGE_STATUS, CommandLine

flags.define()
absl_flags.adopt_module_key_flags(flags)

CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)

command_line = CommandLine("cifar_main", __doc__)
parse, fail = command_line.parse, command_line.fail


def main(argv):
    command_line.refuse_arguments(argv)
    try:
        config = flags.resolve(flags.given(absl_flags.FLAGS))
        runs.RunFolder(config).check()
    except flags.FlagError as error:
        fail(error, USAGE_STATUS)
    except runs.RunError as error:
        fail(error, 1)

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.set_verbosity(logging.WARNING)  # TFDS's and tf.distribute's lines of each step
    from deepncm_tf import datasets, finite, signals, training

    try:
        training.run(config)
    except signals.StoppedError as stopped:
        fail(stopped, stopped.status)
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        fail(
            f"{error.strerror or error}: nothing more could be written to "
            f"--model_dir={config['model_dir']}. What was written before is intact; with "
            "room for it, the same command goes on from there.",
            1,
        )
    except (finite.NotFiniteError, datasets.DatasetNotFoundError, runs.RunError) as error:
        fail(error, 1)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
