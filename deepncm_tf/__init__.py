# SPDX-License-Identifier: Apache-2.0
"""Deep nearest-mean classification in Keras.

Importing the package loads neither Keras nor TensorFlow. Once Keras is loaded too, before
or after it, every class that `keras.models.load_model` needs is registered. Imported before
TensorFlow, it has TensorFlow use oneDNN's kernels on x86 processors.
"""

import contextlib
import importlib

from deepncm_tf.utils import environment
from deepncm_tf.utils.registry import METHODS

__version__ = "0.1.0"
MODELS = {
    "DeepNCM": "deepncm_tf.models.deep_ncm",
    "Segmenter": "deepncm_tf.models.segmenter",
}
MODULES = {
    "backbones": "deepncm_tf.backbones",
    "balanced": "deepncm_tf.data.balanced",
    "datasets": "deepncm_tf.data.datasets",
    "explanation": "deepncm_tf.evaluation.explanation",
    "pipeline": "deepncm_tf.data.pipeline",
}

CLASSIFIERS = [method.class_name for method in METHODS.values()]
__all__ = [*MODELS, *MODULES, *CLASSIFIERS]

environment.use_onednn()


def _register(keras):
    """Imports the classes that saved models are made of, once there is Keras."""
    # A module of this package that is the first to import Keras is not yet whole itself.
    with contextlib.suppress(ImportError):
        import deepncm_tf.backbones.scaling
        import deepncm_tf.models.deep_ncm
        import deepncm_tf.models.pixel_metrics
        import deepncm_tf.models.segmenter
        import deepncm_tf.numerics.piecewise_linear  # noqa: F401


# Where there is no wrapt, `load_model` needs an import of the package's own classes first.
with contextlib.suppress(ImportError):
    import wrapt

    wrapt.when_imported("keras")(_register)


def __getattr__(name):
    if name in MODELS:
        return getattr(importlib.import_module(MODELS[name]), name)
    if name in CLASSIFIERS:
        return getattr(importlib.import_module("deepncm_tf.classifiers"), name)
    if name in MODULES:
        return importlib.import_module(MODULES[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
