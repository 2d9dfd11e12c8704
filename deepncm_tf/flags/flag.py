# SPDX-License-Identifier: Apache-2.0
"""What a flag is, the kinds that there are several of, and the error of a wrong one."""

import dataclasses
import math
import operator
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from deepncm_tf.utils.arguments import is_number
from deepncm_tf.utils.errors import UserError


class FlagError(UserError, ValueError):
    """A flag has a value, or there is a combination of flags, that cannot be run."""

    status = 2  # that of wrong usage


@dataclasses.dataclass(frozen=True)
class Flag:
    """One flag: its type, default, range, and what it belongs to."""

    name: str
    kind: type  # str, int, float or bool
    default: Any  # None where it depends on the dataset, or where unset has a meaning
    help: str
    wanted: str = ""  # what a right value is, for the error message
    accepts: Callable = lambda value: True
    choices: tuple = ()
    method: str = ""  # the only --ncm that it applies to, or several, with spaces between
    argument: str | None = ""  # of the classifier, where it has another name; None if none
    convert: Callable = lambda value, config: value  # to the classifier's argument
    from_dataset: bool = False  # default is the dataset's own
    from_method: dict = dataclasses.field(default_factory=dict)  # methods' own defaults
    task: str = ""  # the only task that it applies to
    from_task: dict = dataclasses.field(default_factory=dict)  # tasks' own defaults
    identity: bool = True  # whether another value gives another result
    canonical: Callable = lambda value: value  # one form of equal values
    number: type | None = None  # of a text that may be a number
    before: Any = None  # what runs did before there was the flag, if not its default

    @property
    def methods(self):
        """What `--ncm` it applies to, a list; empty for all."""
        return self.method.split()

    def checked(self, value):
        """A value in the flag's own type, which JSON has, too.

        Args:
            value: Of that type, or what Python programs have in its place: numbers of
                NumPy, an int for a float, a path for a str, a number for its text.

        Raises:
            FlagError: If it is of another type, or out of range.
        """
        if self.number is not None and is_number(value):
            value = str(value)
        plain = _of_kind(value, self.kind)
        if plain is not None and self.accepts(plain):
            return plain
        wanted = self.wanted or f"of type {self.kind.__name__}"
        received = repr(value) if plain is None else value  # '32' would read as 32
        raise FlagError(
            f"--{self.name} must be {wanted}. Received: --{self.name}={received}"
        )


def _of_kind(value, kind):
    """A value as a flag's type; None where it is of another one."""
    is_bool = isinstance(value, (bool, np.bool_))
    if is_bool or kind is bool:
        return bool(value) if is_bool and kind is bool else None
    try:
        if kind is int:
            return operator.index(value)
        if kind is float:
            return float(value) if is_number(value) else None
        text = os.fspath(value)
    except (TypeError, OverflowError):
        return None
    return text if isinstance(text, str) else None


def positive(value):
    return 0 < value < math.inf


def in_range(minimum):
    return lambda n: minimum <= n < 2**31


def choice(name, default, choices, help, **kwargs):
    wanted = "one of " + ", ".join(choices)
    return Flag(name, str, default, help, wanted, choices.__contains__, choices, **kwargs)


def integer(name, default, help, minimum=1, **kwargs):
    wanted = f"an integer >= {minimum}"
    return Flag(name, int, default, help, wanted, in_range(minimum), **kwargs)


def word_or_number(name, default, word, number, accepts, help, wanted, **kwargs):
    """A flag of text: a word, or a number, whose text is made that of Python: `4` of `04`.

    Args:
        word: String that is accepted.
        number: Type of the number, `int` or `float`.
        accepts: Whether a number is in range.
    """

    def convert(text, config=None):
        return text if text == word else number(str(text))

    def accepts_text(text):
        try:
            return text == word or accepts(convert(text))
        except ValueError:  # no number, or more digits than `int` reads
            return False

    def canonical(text):
        return str(convert(text)).removesuffix(".0")

    return Flag(
        name,
        str,
        default,
        help,
        wanted,
        accepts_text,
        canonical=canonical,
        number=number,
        convert=convert,
        **kwargs,
    )
