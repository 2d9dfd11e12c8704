# SPDX-License-Identifier: Apache-2.0
"""Queries for the pages: pictures of 2 x 2 pixels, of which no two are alike."""

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
