# SPDX-License-Identifier: Apache-2.0
"""Pages that show what decisions were made from: training images, classes, words.

The functions take plain data and give a string that is a whole HTML file (see
`page_frame`). They do not need Keras.
"""

import dataclasses
import re

import numpy as np

from deepncm_tf.pages.markup import joined, number, tag
from deepncm_tf.pages.page_frame import Card, Pictures, badge, facts_list, page, verdict

CHANGE = "What would have changed the decision"
QUERY_SIZE, EXEMPLAR_SIZE = 128, 64  # multiples of CIFAR's 32: all pixels alike
EXPLANATIONS = (
    "Each card is a query: what the model saw in it, the training images it is most like, "
    "first of the predicted class and then of the next ones, and the rule that decided."
)
GALLERY = (
    "Each card is a query and the training images nearest to it, the nearest first, "
    "with their similarity. ✓ marks those that are right, ✗ those that are wrong. A query "
    "counts as a mistake where at least one model is wrong."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Exemplar:
    """A training image, as the neighbour of a query.

    Args:
        image: `(h, w)`, `(h, w, 1)` or `(h, w, 3)` uint8 array.
        index: Integer, its place in the training set.
        label: String, its class.
        similarity: Float, to the query.
        right: Whether it counts as right, or None to leave it unmarked.
    """

    image: np.ndarray
    index: int
    label: str
    similarity: float
    right: bool | None = None


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
    """

    image: np.ndarray
    name: str
    label: str | None
    predicted: str
    evidence: list
    rule: str
    change: str


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
    shown = Pictures()
    cards = [_explanation(query, shown) for query in queries]
    return page(title, EXPLANATIONS, facts, cards, shown)


def gallery_page(title, facts, queries):
    """The page of nearest training images.

    Args:
        title: String.
        facts: Dictionary of names and strings or numbers, shown at the top.
        queries: List of `Retrieved`.

    Returns:
        String, an HTML file to be written as UTF-8; the same for the same arguments.
    """
    shown = Pictures()
    cards = [_neighbours(query, shown) for query in queries]
    return page(title, GALLERY, facts, cards, shown)


def _explanation(query, shown):
    first, *others = (_evidence(query, evidence, shown) for evidence in query.evidence)
    kind = verdict(query.label, query.predicted)
    head = joined([_picture(query, shown), badge(kind), _classes(query, query.predicted)])
    rule = tag("p", *_keywords(query.rule), class_="rule")
    words = (
        tag("section", tag("h3", "Rule"), rule),
        tag("section", tag("h3", CHANGE), tag("p", query.change)),
    )
    rows = [first, tag("div", *others, class_="others"), tag("div", *words, class_="words")]
    return Card(query.name, head, joined(rows), query.label, [query.predicted])


def _evidence(query, evidence, shown):
    roles = {"predicted": query.predicted, "true class": query.label}
    notes = [role for role, name in roles.items() if name == evidence.name]
    notes.append(f"score {number(evidence.score)}")
    heading = tag("h3", evidence.name, " ", tag("small", ", ".join(notes)))
    captions = [
        f"no. {exemplar.index}" if exemplar.label == evidence.name else exemplar.label
        for exemplar in evidence.exemplars
    ]
    return tag("section", heading, _exemplars(evidence.exemplars, captions, shown))


def _keywords(rule):
    """The rule's text, with its IF, AND and THEN set off."""
    parts = re.split(r"\b(IF|AND|THEN)\b", rule)
    return [tag("strong", part) if i % 2 else part for i, part in enumerate(parts)]


def _neighbours(query, shown):
    blocks = []
    for model, (predicted, exemplars) in query.models.items():
        marks = [e.right for e in exemplars if e.right is not None]
        right = f"{sum(marks)} of {len(marks)} neighbours right" if marks else ""
        mark = badge(verdict(query.label, predicted), f"predicted {predicted}")
        words = tag("p", mark, tag("small", right))
        listed = _exemplars(exemplars, [e.label for e in exemplars], shown)
        blocks.append(tag("section", tag("h3", model), words, listed))
    head = joined([_picture(query, shown), _classes(query)])
    predictions = [predicted for predicted, _ in query.models.values()]
    body = tag("div", *blocks, class_="models")
    return Card(query.name, head, body, query.label, predictions)


def _picture(query, shown):
    return shown.show(query.image, f"query: {query.name}", QUERY_SIZE)


def _classes(query, predicted=None):
    facts = {"True class": "not known" if query.label is None else query.label}
    return facts_list(facts if predicted is None else {**facts, "Predicted": predicted})


def _exemplars(exemplars, captions, shown):
    """The pictures' texts say it all, so the captions are not read out again."""
    items = []
    for exemplar, caption in zip(exemplars, captions, strict=True):
        similarity = number(exemplar.similarity)
        mark = None
        if exemplar.right is not None:
            mark = "right" if exemplar.right else "wrong"
        text = [f"training image {exemplar.index}", f"class {exemplar.label}"]
        text += [f"similarity {similarity}", *filter(None, [mark])]
        picture = shown.show(exemplar.image, ", ".join(text), EXEMPLAR_SIZE)
        caption = tag("span", caption, tag("small", similarity), aria_hidden="true")
        items.append(tag("li", picture, caption, class_=mark))
    return tag("ol", *items, role="list")
