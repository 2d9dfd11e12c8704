# SPDX-License-Identifier: Apache-2.0
"""What there is to say of a model that was taught: in numbers, as a page, in words."""

import math

import numpy as np

from deepncm_tf.evaluation import cross_validation, explanation, neighbors
from deepncm_tf.evaluation.scores import accuracy
from deepncm_tf.models.rejection import fewest_images
from deepncm_tf.pages import page, teaching

NEIGHBOURS = 5  # pictures that are shown beside one that looks mislabelled
CARDS = 100  # such pictures on the page; report.json has all
SAID = 5  # such pictures, and classes that are too small, that are named in words


def make(lesson, features, judged, seconds):
    """The report in numbers.

    Args:
        lesson: `Lesson` whose model has learnt.
        features: `(n, d)`, of the pictures.
        judged: `Judged`.
        seconds: Float, time that the pass took.

    Returns:
        Dictionary that JSON can hold.
    """
    names, labels = lesson.class_names, lesson.labels
    truth = labels[judged.rows]
    matrix = cross_validation.confusion_matrix(truth, judged.predicted, len(names))
    right, held_out = matrix.diagonal(), matrix.sum(axis=1)
    alpha = judged.calibration.alpha
    no_p_values = held_out < fewest_for_p_values(alpha)
    exemplars = _exemplars(lesson, features)
    files, counts = lesson.names, np.bincount(labels, minlength=len(names))
    classes = [
        {
            "name": name,
            "pictures": int(counts[c]),
            "accuracy": float(right[c] / held_out[c]) if held_out[c] else None,
            "exemplars": [files[row] for row in exemplars[c]],
        }
        for c, name in enumerate(names)
    ]
    found = {
        "folder": lesson.root,
        "method": lesson.config["ncm"],
        "backbone": lesson.config["backbone"],
        "image_size": lesson.images.shape[1],
        "pictures": len(labels),
        "accuracy": float(right.sum() / held_out.sum()),
        "judged": len(judged.rows),
        "alpha": alpha,
        "score": judged.calibration.score,
        "seconds": seconds,
        "seconds_per_picture": seconds / len(labels),
        "classes": classes,
        "confusion_matrix": matrix.tolist(),
        "too_small_for_p_values": _chosen(names, no_p_values),
        "always_possible": _chosen(names, held_out < fewest_images(alpha)),
        "looks_mislabelled": _mislabelled(lesson, judged, truth, no_p_values),
    }
    if lesson.test is not None:
        images, test_labels = lesson.test
        logits = lesson.model.classifier(lesson.embed(images))
        found["test_accuracy"] = float(accuracy(logits, test_labels))
        found["test_pictures"] = len(test_labels)
    return found


def page_of(lesson, features, found):
    """The report as a page.

    Args:
        lesson, features: As for `make`.
        found: Dictionary as from `make`.

    Returns:
        String, an HTML file.
    """
    rows = {name: row for row, name in enumerate(lesson.names)}
    classes = [
        teaching.TaughtClass(
            one["name"],
            one["pictures"],
            one["accuracy"],
            [
                page.Exemplar(lesson.images[rows[name]], rows[name], one["name"], 1.0)
                for name in one["exemplars"]
            ],
        )
        for one in found["classes"]
    ]
    queries = _queries(lesson, features, found["looks_mislabelled"][:CARDS], rows)
    matrix = np.array(found["confusion_matrix"])
    title = f"What was learnt of {lesson.root}"
    facts = _facts(found)
    return teaching.teaching_page(title, facts, classes, matrix, queries, notes(found))


def in_words(found, output, page_path):
    """The report in some lines."""
    lines = [
        f"Accuracy {found['accuracy']:.2%}, of {found['judged']} pictures by models that "
        f"had not learnt them; {1000 * found['seconds_per_picture']:.1f} ms a picture"
    ]
    if "test_accuracy" in found:
        lines.append(
            f"Accuracy {found['test_accuracy']:.2%} of the {found['test_pictures']} "
            "pictures in test/"
        )
    odd = found["looks_mislabelled"]
    taken = [one for one in odd if one["predicted"] != one["label"]]
    lines.append(
        f"{len(odd)} pictures are unusual for their class, p < {found['alpha']} where it "
        f"has enough pictures, as some always are; {len(taken)} of them are taken for "
        "another and may be mislabelled"
    )
    lines += [f"  {one['picture']} looks like {one['predicted']}" for one in taken[:SAID]]
    lines += notes(found)
    lines.append(f"Everything is in {output} and {page_path}")
    return "\n".join(lines)


def notes(found):
    """What cannot be told of classes that are too small, a list of sentences."""
    alpha, said = found["alpha"], []
    if found["too_small_for_p_values"]:
        said.append(
            f"Classes of fewer than {fewest_for_p_values(alpha)} pictures "
            f"({_some(found['too_small_for_p_values'])}) have no p < {alpha}: a picture of "
            "theirs counts as unusual where it is taken for another class"
        )
    if found["always_possible"]:
        said.append(
            f"Classes of fewer than {fewest_images(alpha)} pictures "
            f"({_some(found['always_possible'])}) are never ruled out at alpha={alpha}: "
            "classify says of any picture that they are possible"
        )
    return said


def fewest_for_p_values(alpha):
    """Number of pictures of a class, of which the most unusual one has p < alpha."""
    number = math.floor(1 / alpha)
    # Rounded, 1 / alpha may be just below a whole number.
    return next(n for n in (number, number + 1, number + 2) if 1 / n < alpha)


def _chosen(names, chosen):
    return [name for name, is_chosen in zip(names, chosen, strict=True) if is_chosen]


def _some(names):
    """The first of some names, and how many others there are."""
    text, others = ", ".join(names[:SAID]), len(names) - SAID
    return text if others <= 0 else f"{text} and {others} more"


def _exemplars(lesson, features):
    """Rows of the pictures that stand for each class, lists."""
    rows = np.arange(len(lesson.labels))  # in the place of pictures, which are not held
    classifier = lesson.model.classifier
    found = explanation.find_exemplars(classifier, features, lesson.labels, rows)
    return [[int(row) for row in index if row >= 0] for index in found.index]


def _mislabelled(lesson, judged, truth, no_p_values):
    """Pictures that are unusual for their class, first those most taken for another.

    They have p < alpha; in a class too small for that, another class is predicted.
    """
    names, files = lesson.class_names, lesson.names
    is_odd = judged.p_values < judged.calibration.alpha
    odd = np.flatnonzero(is_odd | no_p_values[truth] & (judged.predicted != truth))
    odd = odd[np.lexsort((judged.p_values[odd], -judged.margins[odd]))]
    return [
        {
            "picture": files[judged.rows[i]],
            "label": names[truth[i]],
            "predicted": names[judged.predicted[i]],
            "p_value": float(judged.p_values[i]),
        }
        for i in odd
    ]


def _queries(lesson, features, odd, rows):
    """Odd pictures beside the others that are nearest to them."""
    if not odd:
        return []
    own = np.array([rows[one["picture"]] for one in odd])
    units = neighbors.unit_rows(features)
    number = min(NEIGHBOURS, len(units) - 1)
    similarities, nearest = neighbors.nearest(units[own], units, number, exclude=own)
    names, queries = lesson.class_names, []
    for row, one, near, others in zip(own, odd, similarities, nearest, strict=True):
        exemplars = [
            page.Exemplar(
                lesson.images[int(other)],
                int(other),
                names[lesson.labels[other]],
                float(similarity),
                names[lesson.labels[other]] == one["label"],
            )
            for other, similarity in zip(others, near, strict=True)
        ]
        models = {f"p = {one['p_value']:.3f}": (one["predicted"], exemplars)}
        picture = lesson.images[int(row)]
        queries.append(page.Retrieved(picture, one["picture"], one["label"], models))
    return queries


def _facts(found):
    facts = {
        "Pictures": found["pictures"],
        "Classes": len(found["classes"]),
        "Backbone": found["backbone"],
        "Method": found["method"],
        "Accuracy, cross-validated": found["accuracy"],
        "Milliseconds a picture": 1000 * found["seconds_per_picture"],
        "Alpha": found["alpha"],
    }
    if "test_accuracy" in found:
        facts["Accuracy on test/"] = found["test_accuracy"]
    return facts
