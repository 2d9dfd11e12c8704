# SPDX-License-Identifier: Apache-2.0
"""Explanations of predictions in words: why a class, and what would have changed it."""

UNKNOWN = "unknown"
CLASSES_SHOWN = 4  # the predicted one and the next three, as in the paper's figure 6
SCORES_IN_WORDS = {
    "distance": "its nearness to the nearest prototype",
    "max_logit": "its largest logit",
    "max_probability": "its largest probability",
    "energy": "its log sum of exponentials",
}


def as_unknown(explained, measure, has_prototypes):
    """What is said of a rejected image: the threshold, and the nearest exemplar."""
    rejection = explained["rejection"]
    is_logit = rejection["score"] == "distance" and not has_prototypes
    score = SCORES_IN_WORDS["max_logit" if is_logit else rejection["score"]]
    value, threshold = rejection["value"], rejection["threshold"]
    nearest = _in_words(_shown(explained), explained["by_exemplars"], measure, "image")
    rule = (
        f"IF {score} is below {threshold:.3f} THEN it is unknown: of held-out images of "
        f"the known classes at most {100 * rejection['alpha']:g} % are. {score[0].upper()}"
        f"{score[1:]} is {value:.3f}. The nearest exemplar is training {nearest}."
    )
    change = (
        f"With {threshold - value:.3f} more it would not have been unknown, but taken for "
        f"{_quoted(explained['predicted'])}."
    )
    return {"predicted": UNKNOWN, "rule": rule, "change": change}


def rule_of(explained, measure, num_known, thing):
    """Eq. 9 with its numbers: IF nearer to one exemplar than to all of the others THEN.

    The exemplars that it names are the nearest of the classes that are shown.
    """
    shown = _shown(explained)
    winner = explained["by_exemplars"]
    is_near = "nearer to" if measure == "distance" else "more like"
    than = "to" if measure == "distance" else "like"

    def of_class(name):
        return _in_words(shown, name, measure, thing)

    sign = 1 if measure == "distance" else -1
    others = sorted(shown.keys() - {winner}, key=lambda name: sign * shown[name][measure])
    terms = [f"than {than} {of_class(name)}" for name in others]
    rest = num_known - len(shown)
    if rest:
        classes = "class" if rest == 1 else f"{rest} classes"
        terms.append(f"than {than} any exemplar of the other {classes}")
    terms = f" {' AND '.join(terms)}" if terms else ""
    rule = (
        f"IF it is {is_near} training {of_class(winner)}{terms} "
        f"THEN it is {_quoted(winner)}."
    )
    if winner != explained["predicted"]:
        rule += (
            f" The model itself, which does not decide by these {thing}s alone, says "
            f"{_quoted(explained['predicted'])}."
        )
    return rule


def _shown(explained):
    """The nearest exemplar of each class that is shown and has any, by the class's name."""
    classes = (one for one in explained["classes"] if one["exemplars"])
    return {one["class"]: one["exemplars"][0] for one in classes}


def _in_words(shown, name, measure, thing):
    near = shown[name]
    number = f"{near[measure]:.3f}"
    number = f"distance {number}" if measure == "distance" else number
    return f"{thing} {near['index']} of {_quoted(name)} ({number})"


def change_of(explained, thing):
    """What would have changed the decision, by the logits of the first two classes."""
    if len(explained["classes"]) == 1:
        return f"Nothing: {_quoted(explained['predicted'])} is the only class."
    first, second = explained["classes"][:2]
    margin = first["logit"] - second["logit"]
    text = (
        f"The logit of {_quoted(first['class'])} is {first['logit']:.3f}, that of "
        f"{_quoted(second['class'])} {second['logit']:.3f}. With {margin:.3f} less for the "
        f"one, or more for the other, the {thing} would have been taken for "
        f"{_quoted(second['class'])}."
    )
    if explained["label"] is not None and explained["label"] != explained["predicted"]:
        names = [one["class"] for one in explained["classes"][:CLASSES_SHOWN]]
        place = names.index(explained["label"]) + 1 if explained["label"] in names else None
        where = f"comes {place}." if place else "is not among the first four."
        text += f" The true class, {_quoted(explained['label'])}, {where}"
    return text


def _quoted(name):
    """A class's name in a sentence, where that of a digit would be taken for a number."""
    return f"“{name}”"
