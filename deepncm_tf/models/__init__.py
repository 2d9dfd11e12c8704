# SPDX-License-Identifier: Apache-2.0
"""Keras models with a nearest-mean classifier, and how they train.

A step is exact: the same on one device, on many, and on parts of a batch.
"""

import importlib

__all__ = ["DeepNCM", "Segmenter"]
MODULES = {"DeepNCM": "deep_ncm", "Segmenter": "segmenter"}


def __getattr__(name):
    if name in MODULES:
        return getattr(importlib.import_module(f"{__name__}.{MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
