# SPDX-License-Identifier: Apache-2.0
"""Deep nearest-mean classification in Keras.

Importing the package loads neither Keras nor TensorFlow. Once Keras is loaded too, before
or after it, every class that `keras.models.load_model` needs is registered. Imported before
TensorFlow, it has TensorFlow use oneDNN's kernels on x86 processors.
"""

import contextlib
import importlib

import wrapt

from deepncm_tf.utils import environment

__version__ = "0.1.0"
__all__ = ["DeepNCM", "Segmenter", "backbones", "datasets", "explanation", "pipeline"]
MODELS = {
    "DeepNCM": "deepncm_tf.models.deep_ncm",
    "Segmenter": "deepncm_tf.models.segmenter",
}
MODULES = {
    "backbones": "deepncm_tf.backbones",
    "datasets": "deepncm_tf.data.datasets",
    "explanation": "deepncm_tf.evaluation.explanation",
    "pipeline": "deepncm_tf.data.pipeline",
}

environment.use_onednn()


@wrapt.when_imported("keras")
def _register(keras):
    """Imports the classes that saved models are made of, once there is Keras."""
    # A module of this package that is the first to import Keras is not yet whole itself.
    with contextlib.suppress(ImportError):
        import deepncm_tf.backbones.scaling
        import deepncm_tf.models.deep_ncm
        import deepncm_tf.models.pixel_metrics
        import deepncm_tf.models.segmenter  # noqa: F401


def __getattr__(name):
    if name in MODELS:
        return getattr(importlib.import_module(MODELS[name]), name)
    if name in MODULES:
        return importlib.import_module(MODULES[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
