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
        flag_values: Its flags, `absl.flags.FlagValues`; by default absl's global ones.
    """

    def __init__(self, program, doc, flag_values=flags.FLAGS):
        self.program = program
        self.doc = doc
        self.flag_values = flag_values

    def parse(self, argv):
        """Parses the arguments, returns others; `--help` and errors end the program."""
        if {"--help", "-help", "-h", "--helpshort"} & set(argv[1:]):
            print(self.doc)
            _, _, text = self._help().lstrip().partition("\n")
            print(f"Flags:\n\n{text}")
            sys.exit(0)
        try:
            return self.flag_values(argv, known_only=False)
        except flags.Error as error:
            self.fail(error, USAGE_STATUS)

    def _help(self):
        if self.flag_values is flags.FLAGS:
            return self.flag_values.main_module_help()
        return self.flag_values.get_help()

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
