# SPDX-License-Identifier: Apache-2.0
"""Classes named by numbers and ranges, and a dataset of those alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepncm_tf import datasets, flags
from deepncm_tf.data import known_classes


@pytest.mark.parametrize(
    ("text", "numbers", "shortest"),
    [
        ("0-6", [0, 1, 2, 3, 4, 5, 6], "0-6"),
        ("7, 0,2 ,5 - 6", [0, 2, 5, 6, 7], "0,2,5-7"),
        ("3", [3], "3"),
        ("1,1-2,2", [1, 2], "1-2"),
        ("08", [8], "8"),
    ],
)
def test_texts(text, numbers, shortest):
    assert known_classes.parse(text) == numbers
    assert known_classes.as_text(numbers) == shortest


@given(st.sets(st.integers(0, 300), min_size=1))
def test_text_and_numbers_are_inverse(numbers):
    assert known_classes.parse(known_classes.as_text(numbers)) == sorted(numbers)


@pytest.mark.bad_input
@pytest.mark.parametrize("text", ["", "a", "6-0", "1,,2", "-1", "1-", "1.5", "9" * 400])
def test_bad_texts(text):
    assert not known_classes.is_text(text)
    with pytest.raises(ValueError, match="numbers of classes and ranges of them"):
        known_classes.parse(text)


def test_a_dataset_of_some_classes():
    whole = datasets.load("digits")
    some = datasets.load("digits", classes=[1, 4, 9], validation_fraction=0.1)
    assert set(some) == {"train", "val", "test"}
    images, labels = some["test"]
    rows = np.isin(whole["test"][1], [1, 4, 9])
    np.testing.assert_array_equal(images, whole["test"][0][rows])
    np.testing.assert_array_equal(np.array([1, 4, 9])[labels], whole["test"][1][rows])
    sizes = [len(some[split][1]) for split in ("train", "val")]
    assert sum(sizes) == np.isin(whole["train"][1], [1, 4, 9]).sum()
    for wrong in ([1, 10], []):
        message = r"`classes` must be of the 10 classes of digits.* Received: classes=\["
        with pytest.raises(ValueError, match=message):
            datasets.load("digits", classes=wrong)


def test_flags():
    config = flags.resolve({"dataset": "digits", "known_classes": "6,0-5"})
    assert config["known_classes"] == "0-6"
    assert flags.num_classes(config) == 7
    assert flags.num_classes(flags.resolve({"dataset": "digits"})) == 10
    assert "known_classes" in flags.run_name(config)
