# SPDX-License-Identifier: Apache-2.0
"""Models whose classes come and go: the same backbone with another classifier."""

import numpy as np

from deepncm_tf.classifiers import class_changes
from deepncm_tf.distribution import replicas
from deepncm_tf.models import adapting, same_features
from deepncm_tf.models.class_names import (
    are_different_strings,
    in_list,
    names_of,
    to_number,
)
from deepncm_tf.utils.arguments import as_positive_integer


def add_classes(model, number, names=None):
    """See `DeepNCM.add_classes`."""
    number = as_positive_integer("number", number)
    before = model.num_classes
    all_names = None
    if names is not None or model.class_names is not None:
        new = [str(c) for c in range(before, before + number)]
        new = new if names is None else in_list(names)
        all_names = [*names_of(model), *new]
        if len(new) != number or not are_different_strings(all_names):
            raise ValueError(
                f"`names` must be {number} strings, one for each new class, that are names "
                f"of no other class. Received: names={names!r}"
            )
    groups = [*((c,) for c in range(before)), *[()] * number]
    return regroup(model, groups, all_names)


def remove_classes(model, labels):
    """See `DeepNCM.remove_classes`."""
    gone = {to_number(model, label, "labels") for label in in_list(labels)}
    kept = [c for c in range(model.num_classes) if c not in gone]
    if not kept:
        raise ValueError(
            "`remove_classes` must leave at least one class. Received: all "
            f"{model.num_classes} of them"
        )
    names = model.class_names and [model.class_names[c] for c in kept]
    return regroup(model, [(c,) for c in kept], names)


def merge_classes(model, groups):
    """See `DeepNCM.merge_classes`."""
    is_dictionary = isinstance(groups, dict) and all(isinstance(n, str) for n in groups)
    if not is_dictionary or not all(map(_is_sequence, groups.values())):
        raise ValueError(
            "`groups` must be a dictionary from a name to a sequence of the classes that "
            f"it is to be. Received: groups={groups}"
        )
    numbers = {
        name: tuple(to_number(model, label, "groups") for label in in_list(labels))
        for name, labels in groups.items()
    }
    members = [c for group in numbers.values() for c in group]
    has_names = are_different_strings(list(numbers))
    is_once = len(set(members)) == len(members)
    if not has_names or not is_once or not all(numbers.values()):
        raise ValueError(
            "`groups` must be a dictionary from a name to the classes that it is to be, "
            f"at least one, each of them once. Received: groups={groups}"
        )
    of_first = {min(group): (name, group) for name, group in numbers.items()}
    gone = set(members) - set(of_first)
    names = names_of(model)
    merged = [
        of_first.get(c, (names[c], (c,))) for c in range(model.num_classes) if c not in gone
    ]
    return regroup(model, [group for _, group in merged], [name for name, _ in merged])


def forget(model, x, y, sample_weight=None, **options):
    """See `DeepNCM.forget`."""
    folds = None
    if model.classifier.unlearns:
        folds = adapting.statistics_of(model, x, y, sample_weight, **options)
    with replicas.scope_of(model):
        classifier = class_changes.forget(model.classifier, folds)
        return model.with_classifier(classifier, model.class_names)


def merge_statistics(model, other):
    """See `DeepNCM.merge_statistics`."""
    if model.class_names != other.class_names:
        raise ValueError(
            "`other` must have the same classes. Received: class_names="
            f"{other.class_names}, and here {model.class_names}"
        )
    for one in (model, other):
        class_changes.check_built(one.classifier)
    same_features.check_same(model, other)
    with replicas.scope_of(model):
        classifier = class_changes.merge_statistics(model.classifier, other.classifier)
        return model.with_classifier(classifier, model.class_names)


def _is_sequence(values):
    return np.iterable(values) and not isinstance(values, str)


def regroup(model, groups, names):
    """A model with other classes; see `classifiers.class_changes.regroup`."""
    with replicas.scope_of(model):
        classifier = class_changes.regroup(model.classifier, groups)
        return model.with_classifier(classifier, names)
