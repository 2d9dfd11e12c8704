# SPDX-License-Identifier: Apache-2.0
"""The page of what a model has learnt of a folder of pictures."""

import dataclasses

from deepncm_tf.pages.page import cards_of
from deepncm_tf.pages.page_frame import page

MATRIX_CLASSES = 30  # with more, a table of all pairs is no help
CONFUSIONS = 20  # pairs that are listed


@dataclasses.dataclass(frozen=True, eq=False)
class TaughtClass:
    """A class that was taught.

    Args:
        name: String.
        pictures: Int, number of its pictures.
        accuracy: Float, share of them that was recognized; None where it is not known.
        exemplars: List of `page.Exemplar`.
    """

    name: str
    pictures: int
    accuracy: float | None
    exemplars: list


def teaching_page(title, facts, classes, matrix, queries, notes=()):
    """The page of a taught model.

    Args:
        title: String.
        facts: Dictionary of names and strings or numbers, shown at the top.
        classes: List of `TaughtClass`.
        matrix: `(C, C)` integers, pictures of each class (rows) by what they were taken
            for.
        queries: List of `page.Retrieved`, pictures that look mislabelled.
        notes: Sentences on the classes.

    Returns:
        String, an HTML file to be written as UTF-8; the same for the same arguments.
    """
    cards = cards_of(queries)
    names = [one.name for one in classes]
    return page(
        "teaching",
        title,
        facts,
        cards,
        taught=classes,
        notes=notes,
        confusions=confusions(names, matrix)[:CONFUSIONS],
        matrix=matrix if len(classes) <= MATRIX_CLASSES else None,
    )


def confusions(names, matrix):
    """The pairs of classes that are mixed up, the most frequent first.

    Args:
        names: List of strings.
        matrix: As for `teaching_page`.

    Returns:
        List of dictionaries: `label`, `predicted` and `pictures`.
    """
    pairs = [
        {"label": names[c], "predicted": names[other], "pictures": int(count)}
        for c, row in enumerate(matrix)
        for other, count in enumerate(row)
        if c != other and count
    ]
    return sorted(pairs, key=lambda pair: -pair["pictures"])
