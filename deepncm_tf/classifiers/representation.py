# SPDX-License-Identifier: Apache-2.0
"""A classifier in one line, as a user would write it."""

import inspect

import keras

LONGEST = 40  # characters of an argument


def representation(classifier):
    """`OnlineMean(num_classes=10)`, with the arguments that are not the defaults."""
    of_layers = keras.layers.Layer().get_config()
    defaults = {}
    for cls in reversed(type(classifier).__mro__):
        parameters = inspect.signature(cls.__init__).parameters.values()
        defaults |= {p.name: p.default for p in parameters}
    arguments = []
    for name, value in classifier.get_config().items():
        if name in of_layers or value == defaults.get(name, inspect.Parameter.empty):
            continue
        text = repr(value)
        arguments.append(f"{name}={text if len(text) <= LONGEST else '...'}")
    arguments.sort(key=lambda text: not text.startswith("num_classes="))
    return f"{type(classifier).__name__}({', '.join(arguments)})"
