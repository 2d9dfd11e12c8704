# SPDX-License-Identifier: Apache-2.0
"""What methods that go beyond those of `keras.Model` have in common with them."""

import functools
import inspect

import keras


def as_in_keras(method):
    """Lets a method take its arguments as `keras.Model`'s of the same name does.

    Args:
        method: Function of `self` and of arguments by name.
    """
    name = method.__name__
    signature = inspect.signature(getattr(keras.Model, name))

    @functools.wraps(method)
    def with_names(self, *args, **kwargs):
        try:
            arguments = signature.bind(self, *args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}.{name}() {error}") from None
        others = arguments.pop("kwargs", {})
        del arguments["self"]
        return method(self, **arguments, **others)

    with_names.__signature__ = signature
    return with_names


def with_callbacks(own, given, model):
    """A model's own callbacks and, after them, those that a method was given.

    Args:
        own: List of callbacks.
        given: As for `keras.Model.fit`: None, a callback, a structure of them, or a
            `keras.callbacks.CallbackList`, to which Keras adds none of its own.
        model: The model.
    """
    if isinstance(given, keras.callbacks.CallbackList):
        return keras.callbacks.CallbackList([*own, given], model=model)
    return [*own, *keras.tree.flatten(given or [])]
