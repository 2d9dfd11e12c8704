# SPDX-License-Identifier: Apache-2.0
"""Queries for the pages, and what is to be shown of them, as by `read_page.shown`.

Pictures are of 2 x 2 pixels, and no two are alike.
"""

import numpy as np

from deepncm_tf.pages import page

PLAIN = ("cat", "dog", "frog", "horse")
HOSTILE = (
    "<b>x</b>",
    "\"&'</title></style></script><script>hacked = 1</script>",
    "<img src=x onerror=hacked=1> -->\ud800",
    "a_very_long_name_" * 6,
)
# True class (None: not known) and what two models predict.
OUTCOMES = ((0, 0, 0), (0, 1, 0), (1, 1, 1), (2, 3, 3), (None, 0, 2), (3, 2, 3), (0, 0, 1))
SIGNS = {"right": "✓", "wrong": "✗", "unknown": "?"}


def picture(index):
    """Of training image `index`; queries have the numbers from 1000."""
    return np.random.default_rng(index).integers(0, 256, (2, 2, 3), np.uint8)


def exemplar(index, names, label=None):
    right = None if label is None else index % 4 == label
    return page.Exemplar(picture(index), index, names[index % 4], 1 - index / 64, right)


def explained(names=PLAIN):
    queries = []
    for i, (label, predicted, _) in enumerate(OUTCOMES):
        order = sorted(range(4), key=lambda c: (c != predicted, c))
        evidence = [
            page.ClassEvidence(
                names[c], 1 - rank / 4, [exemplar(4 * k + c, names) for k in range(2)]
            )
            for rank, c in enumerate(order)
        ]
        rule = f"IF near {names[predicted]}\nAND far from {names[order[1]]}\nTHEN so"
        change = f"Less of {names[predicted]}."
        label = None if label is None else names[label]
        query = (picture(1000 + i), f"query {i}", label, names[predicted])
        queries.append(page.Explained(*query, evidence, rule, change))
    return queries


def retrieved(names=PLAIN):
    queries = []
    for i, (label, *predictions) in enumerate(OUTCOMES):
        models = {}
        for model, c, first in zip(
            (names[0], "other"), predictions, (i, i + 5), strict=True
        ):
            near = [exemplar(index, names, label) for index in range(first, first + 5)]
            models[model] = names[c], near
        label = None if label is None else names[label]
        queries.append(page.Retrieved(picture(1000 + i), f"query {i}", label, models))
    return queries


def both(names=PLAIN):
    """The two pages of these queries."""
    facts = {names[0]: names[1], "accuracy": 0.75, "queries": len(OUTCOMES)}
    return {
        "explanations": page.explanations_page(names[0], facts, explained(names)),
        "gallery": page.gallery_page(names[0], facts, retrieved(names)),
    }


def expected_cards(kind, names, verdicts):
    """The cards of a page with these names, which count as right, wrong or unknown."""
    if kind == "explanations":
        pairs = zip(explained(names), verdicts, strict=True)
        return [_explanation(*pair) for pair in pairs]
    return [_retrieval(*pair) for pair in zip(retrieved(names), verdicts, strict=True)]


def _card(query, predicted, verdict):
    """What both kinds of card say of a query."""
    return {
        "name": query.name,
        "picture": (f"query: {query.name}", query.image.tolist()),
        "facts": {"True class": "not known" if query.label is None else query.label},
        "badge": None,
        "verdict": verdict,
        "label": query.label,
        "predicted": predicted,
    }


def _section(heading, words, neighbours=()):
    return {"heading": heading, "words": words, "neighbours": [*neighbours]}


def _neighbours(exemplars, captions):
    shown = []
    for one, caption in zip(exemplars, captions, strict=True):
        mark = {None: None, True: "right", False: "wrong"}[one.right]
        words = f"training image {one.index}, class {one.label}"
        words += f", similarity {one.similarity:.3f}" + (f", {mark}" if mark else "")
        caption = f"{caption} {one.similarity:.3f}"
        picture = (words, one.image.tolist())
        shown.append({"picture": picture, "mark": mark, "caption": caption})
    return shown


def _explanation(query, verdict):
    sections = []
    for one in query.evidence:
        notes = ["predicted"] * (one.name == query.predicted)
        notes += ["true class"] * (one.name == query.label)
        notes = ", ".join([*notes, f"score {one.score:.3f}"])
        captions = [f"no. {exemplar.index}" for exemplar in one.exemplars]
        near = _neighbours(one.exemplars, captions)
        sections.append(_section(f"“{one.name}” {notes}", "", near))
    sections.append(_section("Rule", " ".join(query.rule.split())))
    sections.append(_section("What would have changed the decision", query.change))
    card = _card(query, [query.predicted], verdict)
    card["facts"]["Predicted"] = query.predicted
    return {**card, "badge": f"{SIGNS[verdict]} {verdict}", "sections": sections}


def _retrieval(query, verdict):
    sections = []
    for model, (predicted, exemplars) in query.models.items():
        one = "unknown" if query.label is None else "wrong"
        one = "right" if predicted == query.label else one
        words = f"{SIGNS[one]} {one}: predicted “{predicted}”"
        marks = [exemplar.right for exemplar in exemplars]
        if None not in marks:
            words += f" {marks.count(True)} of {len(marks)} neighbours right"
        near = _neighbours(exemplars, [exemplar.label for exemplar in exemplars])
        sections.append(_section(model, words, near))
    card = _card(query, [name for name, _ in query.models.values()], verdict)
    return {**card, "sections": sections}
