# SPDX-License-Identifier: Apache-2.0
"""Names of classes, by which users may call them."""

import math
import operator

import keras
import numpy as np

from deepncm_tf.numerics.labels import refuse_names
from deepncm_tf.utils.arguments import is_number


def as_names(names, num_classes):
    """Names as a list of strings, or None; a `ValueError` where they are none.

    Args:
        names: Sequence of C different strings, or None.
        num_classes: Int, number of classes C.
    """
    if names is None:
        return None
    listed = in_list(names)
    if not are_different_strings(listed) or len(listed) != num_classes:
        raise ValueError(
            f"`class_names` must be {num_classes} different strings in order, one for each "
            f"class. Received: class_names={names!r}"
        )
    return listed


def in_list(classes):
    """Numbers or names of classes in a list, with strings that are Python's own.

    Args:
        classes: A sequence, an array, or a table with one column; or a single one.

    Returns:
        List; what has no order of its own, as a set has none, is one part of it.
    """
    is_one = isinstance(classes, str | set | frozenset | dict)
    if is_one or not np.iterable(classes):
        return [classes]
    if hasattr(classes, "shape"):
        classes = np.asarray(classes)
        classes = classes[:, 0] if classes.shape[1:] == (1,) else classes
    return [str(part) if isinstance(part, str) else part for part in classes]


def are_different_strings(names):
    """Whether all names in a list are strings, and none is there twice."""
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def names_of(model):
    """The names of a model's classes; their numbers as strings where they have none."""
    return model.class_names or [str(c) for c in range(model.num_classes)]


def to_number(model, label, argument):
    """The number of a class.

    Args:
        model: `DeepNCM`.
        label: Int, or string, its name.
        argument: String, name of the argument that it comes from.

    Raises:
        ValueError: If there is no such class.
    """
    names = names_of(model)
    if isinstance(label, str) and label in names:
        return names.index(label)
    try:
        number = -1 if isinstance(label, bool) else operator.index(label)
    except TypeError:
        number = -1
    if not 0 <= number < model.num_classes:
        raise ValueError(
            f"`{argument}` must be of classes: numbers from 0 to {model.num_classes - 1}, "
            f"or names in `class_names`. Received: {label!r}"
        )
    return number


def to_class_weight(model, class_weight):
    """The argument `class_weight` of `fit` with the number of each class as a key.

    Args:
        model: `DeepNCM` or `Segmenter`.
        class_weight: Dictionary from classes, numbers or names, to weights, 1 for those
            that it lacks; or None.

    Returns:
        Dictionary from all classes to floats, as Keras wants it for datasets; or None.

    Raises:
        ValueError: If there is no such class, a weight is none, or labels are of pixels.
    """
    if class_weight is None:
        return None
    wanted = "`class_weight` must be a dictionary from classes to finite numbers >= 0"
    if not isinstance(class_weight, dict):
        raise ValueError(f"{wanted}. Received: class_weight={class_weight!r}")
    if model.built and model.output_rank > 2:
        raise ValueError(
            "`class_weight` must be None where a sample has more than one label, like an "
            "image with one for each pixel: give `sample_weight` for each label. "
            f"Received: class_weight={class_weight}"
        )
    weights = dict.fromkeys(range(model.num_classes), 1.0)
    if model.ignore_class is not None:
        weights[model.ignore_class] = 1.0  # whatever it is, such labels take no part
    found = set()
    for label, weight in class_weight.items():
        is_whole = isinstance(label, float) and label.is_integer()
        number = int(label) if is_whole else label
        if number != model.ignore_class:
            number = to_number(model, number, "class_weight")
        if number in found or not is_number(weight) or not 0 <= weight < math.inf:
            raise ValueError(
                f"{wanted}, each class once. Received: class_weight={class_weight}"
            )
        found.add(number)
        weights[number] = float(weight)
    return weights


def to_numbers(y, names):
    """Labels, where they may be names, as numbers.

    Args:
        y: What `fit` takes as labels; or an array or a list of names.
        names: List of the classes' names, or None.

    Returns:
        int32 array of the shape of the names, or `y` where it is something else.

    Raises:
        ValueError: If there are no `class_names`, or one is none of them.
    """
    if not _are_names(y):
        return y
    array = np.asarray(y)
    if names is None:
        refuse_names(array, "y")
    numbers = {name: number for number, name in enumerate(names)}
    labels = [name.decode() if isinstance(name, bytes) else name for name in array.flat]
    unknown = sorted({repr(str(name)) for name in labels if name not in numbers})
    if unknown:
        raise ValueError(
            f"`y` must be names in `class_names`, {', '.join(names[:5])}"
            f"{', ...' if len(names) > 5 else ''}. Received: {', '.join(unknown[:5])}"
        )
    return np.array([numbers[name] for name in labels], "int32").reshape(array.shape)


def _are_names(y):
    """Whether labels are names or a mixture, in an array, a table or a nested list."""
    if isinstance(y, list | tuple):
        return any(isinstance(label, str) for label in keras.tree.flatten(y))
    if hasattr(y, "columns"):  # as a pandas.DataFrame has, whose columns have dtypes
        y = np.asarray(y)
    dtype = getattr(y, "dtype", None)
    return getattr(dtype, "kind", "f") in "OSTU" or getattr(dtype, "name", "") == "string"
