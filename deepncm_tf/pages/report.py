# SPDX-License-Identifier: Apache-2.0
"""Pages of a model's decisions, written from arrays: explanations and galleries."""

import pathlib

import numpy as np

from deepncm_tf.pages import page, pictures
from deepncm_tf.utils import files
from deepncm_tf.utils.words import percent


def as_pictures(images):
    """Arrays as the pages show them.

    Args:
        images: `(n, h, w)` or `(n, h, w, 1 or 3)` array. Those of uint8 stay; others are
            stretched from their smallest value to their largest. Of another shape, the
            numbers of a sample are a row of gray.

    Returns:
        uint8 array.
    """
    images = np.asarray(images)
    is_picture = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3))
    if not is_picture:
        images = images.reshape(len(images), 1, -1)
    if images.dtype == "uint8":
        return images
    values = images.astype("float32")
    axes = tuple(range(1, values.ndim))
    low = values.min(axis=axes, keepdims=True)
    span = values.max(axis=axes, keepdims=True) - low
    scaled = (values - low) / np.where(span > 0, span, 1)
    return np.rint(255 * np.nan_to_num(scaled)).astype("uint8")


def write_explanations(
    output,
    title,
    facts,
    images,
    names,
    explained,
    exemplars,
    classes,
    measure="similarity",
):
    """Writes explanations of predictions: index.html, exemplars.png, explanations.json.

    Args:
        output: Path of the folder to write to.
        title: String.
        facts: Dictionary of names and strings or numbers, shown at the top, floats in
            percent.
        images: Pictures of the queries.
        names: Names of the queries.
        explained: Dictionaries, as from `evaluation.explanation.explain`.
        exemplars: `evaluation.explanation.Exemplars`, whose images are pictures.
        classes: Names of the classes.
        measure: `"similarity"` or `"distance"`, what exemplars are compared by.
    """
    folder = pathlib.Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    queries = [
        _query(picture, name, one, exemplars, measure)
        for picture, name, one in zip(images, names, explained, strict=True)
    ]
    shown = {
        name: percent(value) if isinstance(value, float) else value
        for name, value in facts.items()
    }
    html = page.explanations_page(title, shown, queries)
    sheet = pictures.contact_sheet(
        [
            [image if i >= 0 else None for image, i in zip(row, places, strict=True)]
            for row, places in zip(exemplars.images, exemplars.index, strict=True)
        ]
    )
    numbers = [{"name": name, **one} for name, one in zip(names, explained, strict=True)]
    places = {
        name: [int(i) for i in row if i >= 0]
        for name, row in zip(classes, exemplars.index, strict=True)
    }
    content = {"facts": facts, "exemplars": places, "queries": numbers}
    files.write_json(folder / "explanations.json", content)
    files.write_atomically(folder / "exemplars.png", lambda path: path.write_bytes(sheet))
    files.write_atomically(
        folder / "index.html", lambda path: path.write_text(html, "utf-8")
    )


def write_gallery(output, title, facts, images, names, labels, by_model, known):
    """Writes the nearest training samples of queries, as one page.

    Args:
        output: Path of the page.
        title, facts, images, names: As in `write_explanations`.
        labels: Names of the queries' classes, or None.
        by_model: Dictionary from models' names to `(predicted, similarities, rows)`: names
            of the predicted classes, and `(n, k)` arrays of the nearest samples.
        known: `(pictures, labels)` of the training samples, names of their classes.
    """
    pictures_of_known, known_labels = known

    def neighbours(i, similarities, rows):
        truth = None if labels is None else labels[i]
        return [
            page.Exemplar(
                pictures_of_known[j],
                int(j),
                known_labels[j],
                float(s),
                None if truth is None else bool(known_labels[j] == truth),
            )
            for s, j in zip(similarities[i], rows[i], strict=True)
        ]

    retrieved = [
        page.Retrieved(
            images[i],
            names[i],
            None if labels is None else labels[i],
            {
                model: (predicted[i], neighbours(i, similarities, rows))
                for model, (predicted, similarities, rows) in by_model.items()
            },
        )
        for i in range(len(images))
    ]
    html = page.gallery_page(title, facts, retrieved)
    pathlib.Path(output).parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(output, lambda path: path.write_text(html, "utf-8"))


def class_evidence(explained, exemplars, measure):
    """What speaks for each class of an explanation, with pictures of its exemplars.

    Args:
        explained: Dictionary, one of those from `explanation.explain`.
        exemplars: `Exemplars` with images.
        measure: `"similarity"` or `"distance"`, which of the two is shown.

    Returns:
        List of `page.ClassEvidence`.
    """
    place = {int(i): where for where, i in np.ndenumerate(exemplars.index) if i >= 0}
    return [
        page.ClassEvidence(
            one["class"],
            one["logit"],
            [
                page.Exemplar(
                    exemplars.images[place[near["index"]]],
                    near["index"],
                    one["class"],
                    near[measure],
                    measure=measure,
                )
                for near in one["exemplars"]
            ],
        )
        for one in explained["classes"]
    ]


def _query(picture, name, explained, exemplars, measure):
    evidence = class_evidence(explained, exemplars, measure)
    label, predicted = explained["label"], explained["predicted"]
    return page.Explained(
        picture, name, label, predicted, evidence, explained["rule"], explained["change"]
    )
