# SPDX-License-Identifier: Apache-2.0
"""Some of a dataset's classes are known to a model; images of the others are of none."""

import re

import numpy as np

from deepncm_tf.data.image_sources import ImageSource

WANTED = "numbers of classes and ranges of them, such as 0-6 or 0,2,5-7"


def parse(text):
    """The classes that a text names: `"0,2,5-7"` are 0, 2, 5, 6 and 7.

    Args:
        text: String.

    Returns:
        List of ints, rising, each once.

    Raises:
        ValueError: If the text is none of numbers and rising ranges.
    """
    numbers = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?", part)
        first, last = (
            (int(end) for end in (match[1], match[2] or match[1])) if match else (1, 0)
        )
        if first > last:
            raise ValueError(f"Classes must be {WANTED}. Received: {text!r}")
        numbers.update(range(first, last + 1))
    return sorted(numbers)


def is_text(text):
    """Whether `parse` accepts it."""
    try:
        return bool(parse(text))
    except ValueError:
        return False


def as_text(numbers):
    """The shortest text of classes, with ranges: the inverse of `parse`."""
    numbers = np.asarray(sorted(numbers))
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def canonical(text):
    """One text of those that name the same classes; None stays."""
    return None if text is None else as_text(parse(text))


def keep(splits, numbers):
    """The images of some classes, which are counted anew from 0.

    Args:
        splits: Dictionary of pairs of images and labels, as from `datasets.load`.
        numbers: List of ints, rising.

    Returns:
        Dictionary of the same form.
    """
    kept = {}
    for name, (images, labels) in splits.items():
        rows = np.flatnonzero(np.isin(labels, numbers))
        labels = np.searchsorted(numbers, labels[rows]).astype("int32")
        take = images.take if isinstance(images, ImageSource) else images.__getitem__
        kept[name] = (take(rows), labels)
    return kept
