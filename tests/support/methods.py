# SPDX-License-Identifier: Apache-2.0
"""Every classifier of the registry, some with arguments that are not the defaults."""

import numpy as np
import pytest

from deepncm_tf.classifiers import NAMES

ARGUMENTS = {
    "softmax": {"use_bias": False, "kernel_initializer": "he_normal"},
    "condensation": {
        "condensation_steps": 2,
        "metric": "cosine",
        "center": "mean",
        "temperature": 0.5,
    },
    "decay": {"decay": 0.5},
    "dnc": {
        "num_sub_centroids": 3,
        "momentum": 0.9,
        "memory_size": 12,
        "initializer": "samples",
    },
    "nca": {"bank_size": 40, "temperature": 0.5, "margin": 0.1},
    "lda": {"shrinkage": 0.5, "priors": "uniform", "refresh_steps": 2},
    "ranpac": {"num_features": 20, "seed": 1},
}
TABLE = [(cls, ARGUMENTS.get(name, {})) for name, cls in NAMES.items()]
IDS = [cls.__name__ for cls, _ in TABLE]

# One of each kind of state. What is the same code for all methods is tested with these,
# or where a test trains whole runs with the two that have the most state; thorough tests
# have the others, too.
KINDS = ("condensation", "dnc", "nca", "ranpac")
OF_EACH_KIND = [(NAMES[name], ARGUMENTS[name]) for name in KINDS]
KIND_IDS = [cls.__name__ for cls, _ in OF_EACH_KIND]
MOST_STATE = ("dnc", "nca")


def each_method(marks, names=MOST_STATE):
    """Parameters for `(cls, arguments)`: all but those of some are thorough tests.

    Args:
        marks: Marks of those of `names`.
        names: Names of methods.
    """
    chosen = [NAMES[name].__name__ for name in names]
    return [
        pytest.param(row, id=name, marks=marks if name in chosen else pytest.mark.thorough)
        for row, name in zip(TABLE, IDS, strict=True)
    ]


def rows_of(chosen, rows=tuple(TABLE)):
    """Parameters `cls, arguments` of methods: all but those chosen are thorough tests.

    Args:
        chosen: Names of methods.
        rows: Pairs of class and arguments.
    """
    classes = [NAMES[name] for name in chosen]
    return [
        pytest.param(*row, id=row[0].__name__, marks=marks)
        for row in rows
        for marks in [() if row[0] in classes else pytest.mark.thorough]
    ]


def others_are_thorough(names, chosen=MOST_STATE):
    """Parameters for names of methods: all but those chosen are thorough tests."""
    return [
        name if name in chosen else pytest.param(name, marks=pytest.mark.thorough)
        for name in names
    ]


def trained_in_space(cls, arguments):
    """A classifier of three classes after three updates, with its samples and labels."""
    rng = np.random.default_rng(2)
    y = np.repeat(np.arange(3), 10)
    x = (rng.normal(size=(30, 5)) + 3 * np.eye(3, 5)[y]).astype("float32")
    classifier = cls(3, **arguments)
    classifier.build((None, 5))
    for rows in np.arange(30).reshape(10, 3).T:
        classifier.update(x[rows], y[rows], index=rows)
    return classifier, x, y
