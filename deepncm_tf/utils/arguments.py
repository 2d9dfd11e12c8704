# SPDX-License-Identifier: Apache-2.0
"""Checks of arguments; a wrong one is named, with its value and what would be right."""

import numbers
import operator


def as_positive_integer(name, value, others=""):
    """Returns an argument as an int, or raises a `ValueError` that names it."""
    try:
        integer = operator.index(value)
    except TypeError:
        integer = 0
    if integer < 1 or isinstance(value, bool):
        wanted = f"a positive integer {others}".rstrip()
        raise ValueError(f"`{name}` must be {wanted}. Received: {name}={value!r}")
    return integer


def as_label(name, value):
    """Returns an argument, an int or None; or raises a `ValueError` that names it."""
    if value is None:
        return None
    try:
        label = operator.index(value)
    except TypeError:
        label = None
    if label is None or isinstance(value, bool):
        raise ValueError(f"`{name}` must be an integer or None. Received: {name}={value!r}")
    return label


def check_number(name, value, wanted, accepts):
    """Raises a `ValueError` that names an argument unless it is such a number."""
    if not is_number(value) or not accepts(value):
        raise ValueError(f"`{name}` must be {wanted}. Received: {name}={value!r}")


def is_number(value):
    """Whether it is a number, NumPy's included, and no bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_choice(name, value, choices):
    """Raises a `ValueError` that names an argument unless it is one of some values."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={value!r}")
