# SPDX-License-Identifier: Apache-2.0
"""What the command lines share: parsing, and errors that end the program in one line."""

import contextlib
import io
import os
import sys

from absl import flags, logging

from deepncm_tf import flags as run_flags
from deepncm_tf.flags import topics
from deepncm_tf.flags.flag import positive
from deepncm_tf.runs.config import read_config
from deepncm_tf.runs.folder import RunFolder
from deepncm_tf.utils import environment, files, quiet, signals
from deepncm_tf.utils.errors import UserError, one_line

USAGE_STATUS = 2


class CommandLine:
    """A program's command line.

    Args:
        program: String, the program's name, which begins its error messages.
        doc: String, what `--help` prints above the flags.
        flag_values: Its flags, `absl.flags.FlagValues`; by default absl's global ones.
        task: String, that of the runs whose flags they are, which `--help` groups; or None.
    """

    def __init__(self, program, doc, flag_values=flags.FLAGS, task=None):
        self.program = program
        self.doc = doc
        self.flag_values = flag_values
        self.task = task

    def parse(self, argv):
        """Parses the arguments, returns others; `--help` and errors end the program."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Names of files need not be text that can be printed.
            sys.stdout.reconfigure(errors="replace")
        if {"--help", "-help", "-h", "--helpshort"} & set(argv[1:]):
            print(self.doc)
            print(self._help())
            sys.exit(0)
        try:
            return self.flag_values(argv, known_only=False)
        except flags.Error as error:
            self.fail(error, USAGE_STATUS)

    def _help(self):
        if self.task is not None:
            texts = [
                f"{title}:\n\n{self._help_of(names)}\n"
                for title, names in topics.groups(self.task)
            ]
            return "\n".join(texts)
        _, _, text = self.flag_values.get_help().lstrip().partition("\n")
        return f"Flags:\n\n{text}"

    def _help_of(self, names):
        """absl's text of some flags, in this order."""
        texts = []
        for name in names:
            alone = flags.FlagValues()
            alone[name] = self.flag_values[name]
            texts.append(alone.get_help("  ", include_special_flags=False))
        return "\n".join(texts)

    @contextlib.contextmanager
    def errors(self, expected=(ValueError,)):
        """Ends the program in one line for what stands in the way of it.

        Args:
            expected: Exceptions, besides `UserError` and those of the system.
        """
        try:
            yield
        except UserError as error:
            self.fail(error, error.status)
        except OSError as error:
            self.fail(files.describe(error))
        except expected as error:
            self.fail(error)
        except Exception as error:
            # By its name: TensorFlow need not have been imported.
            if type(error).__name__ not in ("MemoryError", "ResourceExhaustedError"):
                raise
            self.fail(f"There is not enough memory ({one_line(error)[:200]})")

    def train(self, argv, resolve):
        """Trains the run that the flags describe.

        Args:
            argv: List of strings, what is left of the arguments.
            resolve: Function that returns the run's config, as from `flags.resolve`.
        """
        self.refuse_arguments(argv)
        with self.errors(expected=()):
            config = resolve()
            folder = RunFolder(config)
            folder.check()
            begun_with = folder.begun_with()
        quiet_tensorflow()
        if begun_with is not None:
            environment.use(begun_with)
        quiet.start_tensorflow()
        from deepncm_tf.runs import training

        with self.errors(expected=()):
            training.run(config)

    def finished_run(self, argv, flag_values, tasks=(run_flags.CLASSIFICATION,)):
        """The config of --model_dir, before TensorFlow takes its time.

        Ends the program where there is no finished run of one of the tasks. TensorFlow is
        told to be quiet.
        """
        self.refuse_arguments(argv)
        if not flag_values.model_dir:
            self.fail("--model_dir=DIR is needed: a finished run", USAGE_STATUS)
        quiet_tensorflow()
        with self.errors():
            return read_config(flag_values.model_dir, tasks=tasks)

    def refuse_arguments(self, argv):
        """Ends the program where there is something else than flags."""
        if len(argv) > 1:
            self.fail(
                f"Arguments must be flags, --name=value. Received: {' '.join(argv[1:])}",
                USAGE_STATUS,
            )

    def fail(self, error, status=1):
        """Ends the program with a message and a status."""
        signals.flush_output()
        hint = "\n(--help lists the flags)" if status == USAGE_STATUS else ""
        print(f"{self.program}: {error}{hint}", file=sys.stderr)
        signals.ignore()
        sys.exit(status)


def quiet_tensorflow():
    """Leaves of TensorFlow's lines the warnings. Call it before TensorFlow is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.set_verbosity(logging.WARNING)  # TFDS's and tf.distribute's lines of each step


def define_run_flags(flag_values):
    """Defines the flags of what reads a finished run."""
    text = "Folder of a finished run."
    flags.DEFINE_string("model_dir", None, text, flag_values=flag_values)
    text = "Folder of TFDS datasets; by default TFDS's own choice."
    flags.DEFINE_string("data_dir", None, text, flag_values=flag_values)


def positive_integers(name, texts):
    """The values of a flag that is a list of integers.

    Raises:
        ValueError: If one is no integer >= 1.
    """
    try:
        values = [int(text) for text in texts]
    except ValueError:  # no number, or more digits than `int` reads
        values = []
    if not values or not all(1 <= value < 2**31 for value in values):
        raise ValueError(
            f"--{name} must be integers >= 1, separated by commas. Received: "
            f"--{name}={','.join(texts)}"
        )
    return values


def positive_numbers(name, texts):
    """As `positive_integers`, for numbers above 0."""
    try:
        values = [float(text) for text in texts]
    except ValueError:
        values = []
    if not values or not all(map(positive, values)):
        raise ValueError(
            f"--{name} must be positive numbers, separated by commas. Received: "
            f"--{name}={','.join(texts)}"
        )
    return values
