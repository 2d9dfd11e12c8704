# SPDX-License-Identifier: Apache-2.0
"""Lists of numbers on the command lines that read a finished run."""

import re

import pytest

from deepncm_tf import discover
from deepncm_tf.runs.command_line import positive_integers, positive_numbers

LONG = "9" * 5000  # more digits than `int` reads


def test_numbers_are_read():
    assert positive_integers("k", ["1", " 30", "05"]) == [1, 30, 5]
    assert positive_numbers("temperature", ["0.05", " 1e-2"]) == [0.05, 0.01]


@pytest.mark.bad_input
@pytest.mark.parametrize("text", ["²", LONG, "9" * 20, "0", "-1", "1.5", "", "x"])
def test_what_is_no_positive_integer_is_refused(text):
    message = f"--k must be integers >= 1, separated by commas. Received: --k=1,{text}"
    with pytest.raises(ValueError, match=re.escape(message)):
        positive_integers("k", ["1", text])


@pytest.mark.bad_input
@pytest.mark.parametrize("text", ["²", LONG, "inf", "nan", "1e-999", "-1"])
def test_what_is_no_positive_number_is_refused(text):
    with pytest.raises(ValueError, match="--temperature must be positive numbers"):
        positive_numbers("temperature", ["0.05", text])


@pytest.mark.bad_input
@pytest.mark.parametrize("temperature", [float("inf"), float("nan"), 0.0])
def test_discover_refuses_it_too(temperature):
    with pytest.raises(ValueError, match="--temperature must be a positive number"):
        discover.check({"dataset": "digits", "label": "coarse"}, temperature)
