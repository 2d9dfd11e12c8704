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
