# SPDX-License-Identifier: Apache-2.0
"""What ends a command line in one line, not in a traceback."""


class UserError(RuntimeError):
    """Something that the user can mend; the message says what.

    Attributes:
        status: Int, exit status of a command line that it ends.
    """

    status = 1


class RunError(UserError):
    """The folder cannot be used for this run."""


class DatasetNotFoundError(UserError):
    """The dataset is neither on disk nor within reach."""


class MissingExtraError(UserError):
    """A package of an extra is not installed.

    Args:
        extra: String, the extra in setup.cfg.
        what: String, what needs it.
        error: The error of importing it.
    """

    def __init__(self, extra, what, error):
        super().__init__(
            f"{what} needs the extra {extra!r}: python -m pip install "
            f"'deepncm_tf[{extra}]' ({one_line(error)})"
        )


def one_line(error):
    """An error as a line: its type, and what it says."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
