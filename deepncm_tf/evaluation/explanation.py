# SPDX-License-Identifier: Apache-2.0
"""Explanations by training images: exemplars, and why a class was predicted.

Works with every classifier: it says how near features are to its prototypes (sub-centroids,
class means, or what it has in their place) and to each other.
"""

import dataclasses

import numpy as np
from keras import ops
from scipy.optimize import linear_sum_assignment

UNKNOWN = "unknown"
CLASSES_SHOWN = 4  # the predicted one and the next three, as in the paper's figure 6
SCORES_IN_WORDS = {
    "distance": "its nearness to the nearest prototype",
    "max_logit": "its largest logit",
    "max_probability": "its largest probability",
    "energy": "its log sum of exponentials",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Exemplars:
    """Training images that stand for a classifier's prototypes.

    Attributes:
        images: `(num_classes, K, ...)`, as they were given.
        index: `(num_classes, K)` int64, their places in the training set; -1 where a class
            has no such prototype, or no further image.
        labels: `(num_classes, K)` int64, their classes; -1 where there is none.
        features: `(num_classes, K, d)` float32.
    """

    images: np.ndarray
    index: np.ndarray
    labels: np.ndarray
    features: np.ndarray

    def save(self, path):
        np.savez_compressed(path, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path):
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**arrays)


def find_exemplars(classifier, features, labels, images, index=None):
    """For each prototype the nearest training image of its class, all of them distinct.

    Where two prototypes of a class share the nearest, the images are given out so that the
    sum of the nearnesses is largest.

    Args:
        classifier: A `Classifier`.
        features: `(n, d)`, of the training images.
        labels: `(n,)` integers.
        images: `(n, ...)`.
        index: `(n,)` integers, the images' places in the training set; by default 0..n-1.

    Returns:
        `Exemplars`.

    Reference:
        - Wang, Han, Zhou, Liu, "Visual Recognition with Deep Nearest Centroids", ICLR
          2023, section 3 (interpretability) and Table 4.
    """
    features, labels, images = np.asarray(features), np.asarray(labels), np.asarray(images)
    index = np.arange(len(labels)) if index is None else np.asarray(index)
    chosen = None
    for c in range(classifier.num_classes):
        rows = np.flatnonzero(labels == c)
        # One class at a time: of (n, C, K) numbers only these are looked at.
        near = _numpy(classifier.prototype_scores(features[rows]))[:, c]  # (rows, K)
        if chosen is None:
            chosen = np.full((classifier.num_classes, near.shape[1]), -1)
        present = np.flatnonzero(np.isfinite(near).all(axis=0))
        places, prototypes = linear_sum_assignment(near[:, present], maximize=True)
        chosen[c, present[prototypes]] = rows[places]
    known = (chosen >= 0)[..., None]
    shape = known.shape[:2] + (1,) * (images.ndim - 1)
    return Exemplars(
        images=images[chosen] * known.reshape(shape).astype(images.dtype),
        index=np.where(chosen >= 0, index[chosen], -1),
        labels=np.where(chosen >= 0, labels[chosen], -1).astype("int64"),
        features=(features[chosen] * known).astype("float32"),
    )


def compare(classifier, features, exemplars):
    """Similarity of features with exemplars: `(n, num_classes, K)`, -inf where none is."""
    flat = exemplars.features.reshape(-1, exemplars.features.shape[-1])
    near = _numpy(classifier.compare(np.asarray(features, "float32"), flat))
    near = near.reshape(len(features), *exemplars.index.shape)
    return np.where(exemplars.index >= 0, near, -np.inf)


def explain(
    classifier,
    exemplars,
    features,
    class_names,
    labels=None,
    calibration=None,
    thing="image",
):
    """Explains predictions by exemplars.

    Args:
        classifier: A `Classifier`.
        exemplars: `Exemplars`.
        features: `(n, d)`, of the images to explain.
        class_names: List of strings.
        labels: `(n,)` integers, the true classes, or None.
        calibration: `Calibration` that says which images are of no known class, or None.
        thing: String, what is explained, for the words: `"image"` or `"pixel"`.

    Returns:
        List of dictionaries that JSON can hold, one per image: `predicted`, `label` and
        `classes` (the predicted one, the next three, and that of the nearest exemplar
        where it is none of them; each with its `logit` and the `index` and `similarity` of
        its exemplars, the nearest first), `by_exemplars` (the class of the nearest
        exemplar), `rule` and `change` in words. With a calibration `predicted` is
        `"unknown"` where an image is rejected, and `rejection` a dictionary of its
        `score`'s name, `value` and `threshold`, `p_value` and `alpha`; else None.
    """
    features = np.asarray(features, "float32")
    logits = _numpy(classifier(features))
    similarities = compare(classifier, features, exemplars)
    rejections = [None] * len(features)
    if calibration is not None:
        rejections = _rejections(calibration, classifier, features, logits)
    explanations = []
    for i, (scores, near) in enumerate(zip(logits, similarities, strict=True)):
        order = list(np.argsort(-scores, kind="stable")[:CLASSES_SHOWN])
        by_exemplars = int(near.max(axis=1).argmax())
        if by_exemplars not in order:  # the rule is about it
            order.append(by_exemplars)
        explained = {
            "predicted": class_names[order[0]],
            "label": None if labels is None else class_names[labels[i]],
            "by_exemplars": class_names[by_exemplars],
            "classes": [
                {
                    "class": class_names[c],
                    "logit": float(scores[c]),
                    "exemplars": _nearest_first(near[c], exemplars.index[c]),
                }
                for c in order
            ],
        }
        explained["rule"] = _rule(
            near, exemplars.index, by_exemplars, explained, class_names, thing
        )
        explained["change"] = _change(explained, thing)
        if calibration is not None:
            explained["rejection"] = rejections[i]
        if rejections[i] is not None:
            explained |= _as_unknown(explained, near, exemplars.index, class_names)
        explanations.append(explained)
    return explanations


def _rejections(calibration, classifier, features, logits):
    """For each image why it is of no known class, or None."""
    judged = calibration.judge(classifier, features, logits)
    values = _numpy(calibration.scores_of(classifier, features, logits))
    columns = zip(_numpy(judged["class"]), values, _numpy(judged["p_value"]), strict=True)
    return [
        {
            "score": calibration.score,
            "value": float(value),
            "threshold": calibration.threshold,
            "p_value": float(p_value),
            "alpha": calibration.alpha,
        }
        if c < 0
        else None
        for c, value, p_value in columns
    ]


def _as_unknown(explained, near, index, class_names):
    """What is said of a rejected image: the threshold, and the nearest exemplar."""
    rejection = explained["rejection"]
    score = SCORES_IN_WORDS[rejection["score"]]
    value, threshold = rejection["value"], rejection["threshold"]
    c, k = np.unravel_index(near.argmax(), near.shape)
    rule = (
        f"IF {score} is below {threshold:.3f} THEN it is unknown: of held-out images of "
        f"the known classes at most {100 * rejection['alpha']:g} % are. {score[0].upper()}"
        f"{score[1:]} is {value:.3f}. The nearest exemplar is training image {index[c][k]} "
        f"of {class_names[c]} ({near[c][k]:.3f})."
    )
    change = (
        f"With {threshold - value:.3f} more it would not have been unknown, but taken for "
        f"{explained['predicted']}."
    )
    return {"predicted": UNKNOWN, "rule": rule, "change": change}


def _nearest_first(similarities, index):
    order = [k for k in np.argsort(-similarities, kind="stable") if index[k] >= 0]
    return [{"index": int(index[k]), "similarity": float(similarities[k])} for k in order]


def _rule(near, index, winner, explained, class_names, thing):
    """Eq. 9 with its numbers: IF nearer to one exemplar than to all of the others THEN."""
    best = near.max(axis=1)
    k = near[winner].argmax()
    others = [c for c in np.argsort(-best, kind="stable") if c != winner]
    others = [c for c in others if np.isfinite(best[c])]
    terms = [
        f"than like {thing} {index[c][near[c].argmax()]} of {class_names[c]} "
        f"({best[c]:.3f})"
        for c in others[: CLASSES_SHOWN - 1]
    ]
    rest = len(others[CLASSES_SHOWN - 1 :])
    if rest:
        classes = "class" if rest == 1 else f"{rest} classes"
        terms.append(f"than like any exemplar of the other {classes}")
    than = f" {' AND '.join(terms)}" if terms else ""
    rule = (
        f"IF it is more like training {thing} {index[winner][k]} of {class_names[winner]} "
        f"({best[winner]:.3f}){than} THEN it is {class_names[winner]}."
    )
    if class_names[winner] != explained["predicted"]:
        rule += (
            f" The model itself, which does not decide by these {thing}s alone, says "
            f"{explained['predicted']}."
        )
    return rule


def _change(explained, thing):
    """What would have changed the decision, by the logits of the first two classes."""
    if len(explained["classes"]) == 1:
        return f"Nothing: {explained['predicted']} is the only class."
    first, second = explained["classes"][:2]
    margin = first["logit"] - second["logit"]
    text = (
        f"The logit of {first['class']} is {first['logit']:.3f}, that of {second['class']} "
        f"{second['logit']:.3f}. With {margin:.3f} less for the one, or more for the "
        f"other, the {thing} would have been taken for {second['class']}."
    )
    if explained["label"] is not None and explained["label"] != explained["predicted"]:
        names = [one["class"] for one in explained["classes"][:CLASSES_SHOWN]]
        place = names.index(explained["label"]) + 1 if explained["label"] in names else None
        where = f"comes {place}." if place else "is not among the first four."
        text += f" The true class, {explained['label']}, {where}"
    return text


def _numpy(tensor):
    return ops.convert_to_numpy(tensor)
