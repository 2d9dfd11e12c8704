# SPDX-License-Identifier: Apache-2.0
"""What the command lines share: parsing, and errors that end the program in one line."""

import sys

from absl import flags

USAGE_STATUS = 2


class CommandLine:
    """A program's command line.

    Args:
        program: String, the program's name, which begins its error messages.
        doc: String, what `--help` prints above the flags.
    """

    def __init__(self, program, doc):
        self.program = program
        self.doc = doc

    def parse(self, argv):
        """Parses for `absl.app.run`; `--help` and errors end the program here."""
        if {"--help", "-help", "-h", "--helpshort"} & set(argv[1:]):
            print(self.doc)
            _, _, text = flags.FLAGS.main_module_help().lstrip().partition("\n")
            print(f"Flags:\n\n{text}")
            sys.exit(0)
        try:
            return flags.FLAGS(argv, known_only=False)
        except flags.Error as error:
            self.fail(error, USAGE_STATUS)

    def refuse_arguments(self, argv):
        """Ends the program where there is something else than flags."""
        if len(argv) > 1:
            self.fail(
                f"Arguments must be flags, --name=value. Received: {' '.join(argv[1:])}",
                USAGE_STATUS,
            )

    def fail(self, error, status=1):
        """Ends the program with a message and a status."""
        hint = "\n(--help lists the flags)" if status == USAGE_STATUS else ""
        print(f"{self.program}: {error}{hint}", file=sys.stderr)
        sys.exit(status)


def positive_integers(name, texts):
    """The values of a flag that is a list of integers.

    Raises:
        ValueError: If one is no integer >= 1.
    """
    wrong = [text for text in texts if not text.strip().isdigit() or int(text) < 1]
    if wrong or not texts:
        raise ValueError(
            f"--{name} must be integers >= 1, separated by commas. Received: "
            f"--{name}={','.join(texts)}"
        )
    return [int(text) for text in texts]
