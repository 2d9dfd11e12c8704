# SPDX-License-Identifier: Apache-2.0
"""Whether two models give the same features, so that statistics of both can be joined."""

import warnings

import keras
import numpy as np

SETTINGS = ("normalize", "ignore_class", "dtype_policy")
# Of a layer's configuration what its output at inference does not depend on.
UNRELATED = (
    "name",
    "trainable",
    "seed",
    "momentum",
    "synchronized",
    "build_config",
    "compile_config",
)
OF_TRAINING = ("_initializer", "_regularizer", "_constraint")


def check_same(model, other):
    """Raises a `ValueError` that says what makes the features of two models others.

    Args:
        model, other: `DeepNCM`s.
    """
    for name in SETTINGS:
        found = _difference(getattr(model, name), getattr(other, name), name)
        _refuse(found, "settings")
    for part in ("backbone", "embedding"):
        layers = [getattr(m, part) for m in (model, other)]
        if layers[0] is layers[1]:
            continue
        _refuse(_difference(*map(_described, layers), part), part)
        weights = [layer.get_weights() for layer in layers]
        is_same = len(weights[0]) == len(weights[1])
        if not is_same or not all(map(np.array_equal, *weights)):
            raise ValueError(
                f"`other` must have the same {part}: its statistics are of other features. "
                "Received: one with other weights"
            )


def _refuse(difference, part):
    if difference is not None:
        place, own, others = difference
        raise ValueError(
            f"`other` must have the same {part}: its statistics are of other features. "
            f"Received: {place}={others!r}, and here {own!r}"
        )


def _described(layer):
    """The configuration that features follow from; of one without, the class."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lambdas are compared, never loaded
        try:
            return _related(keras.saving.serialize_keras_object(layer), {})
        except NotImplementedError:
            return type(layer).__qualname__


def _related(config, numbers):
    """A part of a configuration without names, which differ from model to model.

    Args:
        config: What Keras serializes.
        numbers: Dictionary from the names of a model's layers to their places in it.
    """
    if isinstance(config, dict):
        if str(config.get("class_name")).endswith("DTypePolicy"):
            return config["config"]["name"]
        layers = config.get("layers")
        if isinstance(layers, list) and all(isinstance(layer, dict) for layer in layers):
            numbers = {layer.get("name"): place for place, layer in enumerate(layers)}
        return {
            key: _related(value, numbers)
            for key, value in config.items()
            if key not in UNRELATED and not key.endswith(OF_TRAINING)
        }
    if isinstance(config, list | tuple):
        parts = [_related(value, numbers) for value in config]
        if len(parts) == 3 and isinstance(parts[0], str):  # the output of a layer
            parts[0] = numbers.get(parts[0], parts[0])
        return parts
    return config


def _difference(one, other, place):
    """The first difference of two structures: its place and both values, or None."""
    if isinstance(one, dict) and isinstance(other, dict):
        parts = [(f"{place}.{key}", one.get(key), other.get(key)) for key in one | other]
    elif isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return f"number of {place}", len(one), len(other)
        pairs = enumerate(zip(one, other, strict=True))
        parts = [(f"{place}[{number}]", *pair) for number, pair in pairs]
    else:
        return None if one == other else (place, one, other)
    found = (_difference(a, b, where) for where, a, b in parts)
    return next((difference for difference in found if difference is not None), None)
