# SPDX-License-Identifier: Apache-2.0
"""Deep nearest-mean classification in Keras.

`from deepncm_tf import DeepNCM` loads Keras and registers every class that
`keras.models.load_model` needs; importing the package alone loads nothing.
"""

__version__ = "0.1.0"
__all__ = ["DeepNCM"]


def __getattr__(name):
    if name == "DeepNCM":
        from deepncm_tf.model import DeepNCM

        return DeepNCM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
