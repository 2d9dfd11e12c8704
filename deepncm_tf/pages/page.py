# SPDX-License-Identifier: Apache-2.0
"""Pages that show what decisions were made from: training images, classes, words.

The functions take plain data and give a string that is a whole HTML file (see
`page_frame`). They do not need Keras.
"""

import dataclasses

import numpy as np

from deepncm_tf.pages.page_frame import Card, page


@dataclasses.dataclass(frozen=True, eq=False)
class Exemplar:
    """A training image, as the neighbour of a query.

    Args:
        image: `(h, w)`, `(h, w, 1)` or `(h, w, 3)` uint8 array.
        index: Integer, its place in the training set.
        label: String, its class.
        similarity: Float, to the query.
        right: Whether it counts as right, or None to leave it unmarked.
        measure: String, what `similarity` is, `"distance"` for example.
    """

    image: np.ndarray
    index: int
    label: str
    similarity: float
    right: bool | None = None
    measure: str = "similarity"


@dataclasses.dataclass(frozen=True, eq=False)
class ClassEvidence:
    """What speaks for a class.

    Args:
        name: String, the class.
        score: Float, the larger the better.
        exemplars: List of `Exemplar`, the nearest first.
    """

    name: str
    score: float
    exemplars: list


@dataclasses.dataclass(frozen=True, eq=False)
class Explained:
    """A query and why it was classified as it was.

    Args:
        image: As in `Exemplar`.
        name: String, such as `"test image 17"`.
        label: String, the true class, or None where it is not known.
        predicted: String, the predicted class.
        evidence: List of `ClassEvidence`, the predicted class first.
        rule: String, IF … AND … THEN.
        change: String, what would have changed the decision.
        others: Dictionary from what further pictures of the query show to these.
    """

    image: np.ndarray
    name: str
    label: str | None
    predicted: str
    evidence: list
    rule: str
    change: str
    others: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Retrieved:
    """A query and its nearest training images, by one model or by several.

    Args:
        image: As in `Exemplar`.
        name: String, such as `"test image 17"`.
        label: String, the true class, or None where it is not known.
        models: Dictionary from the model's name to a pair: the class that it predicts, and
            a list of `Exemplar`, the nearest first.
    """

    image: np.ndarray
    name: str
    label: str | None
    models: dict


def explanations_page(title, facts, queries):
    """The page of explanations.

    Args:
        title: String.
        facts: Dictionary of names and strings or numbers, shown at the top.
        queries: List of `Explained`.

    Returns:
        String, an HTML file to be written as UTF-8; the same for the same arguments.
    """
    cards = [
        Card(query, [query.predicted], [one.exemplars for one in query.evidence])
        for query in queries
    ]
    return page("explanations", title, facts, cards)


def gallery_page(title, facts, queries):
    """The page of nearest training images.

    Args:
        title: String.
        facts: Dictionary of names and strings or numbers, shown at the top.
        queries: List of `Retrieved`.

    Returns:
        String, an HTML file to be written as UTF-8; the same for the same arguments.
    """
    return page("gallery", title, facts, cards_of(queries))


def cards_of(queries):
    """The cards of `Retrieved` pictures, a list."""
    return [
        Card(
            query,
            [predicted for predicted, _ in query.models.values()],
            [exemplars for _, exemplars in query.models.values()],
        )
        for query in queries
    ]
