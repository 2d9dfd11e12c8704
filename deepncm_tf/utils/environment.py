# SPDX-License-Identifier: Apache-2.0
"""Environment variables that TensorFlow reads when it is imported, and never again."""

import os
import platform
import sys
import warnings

# On x86 processors without AVX-VNNI, TensorFlow leaves oneDNN's kernels out unless told:
# training the ResNet-32 then takes about 1.7 times as long.
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
NAMES = (ONEDNN, "KERAS_BACKEND")  # those that change a result's rounding
_given = os.environ.get(ONEDNN)  # the user's own setting


def use_onednn():
    """Has TensorFlow use oneDNN's kernels on x86 processors, unless the user has chosen.

    Warns where TensorFlow was imported before, and does without them.
    """
    if ONEDNN in os.environ or platform.machine().lower() not in ("x86_64", "amd64"):
        return
    if not _tensorflow_is_imported():
        os.environ[ONEDNN] = "1"
    elif not _has_onednn():
        warnings.warn(
            "TensorFlow was imported before deepncm_tf and runs without oneDNN's kernels: "
            "training on this processor takes about 1.7 times as long. Import deepncm_tf "
            f"first, or set {ONEDNN}=1.",
            stacklevel=3,
        )


def use(stored):
    """Has TensorFlow use what a run was begun with, unless the user has chosen.

    Args:
        stored: Dictionary of variables as from `recorded`; None stands for unset.
    """
    if _given is not None or _tensorflow_is_imported():
        return
    os.environ.pop(ONEDNN, None)
    if stored.get(ONEDNN) in ("0", "1"):
        os.environ[ONEDNN] = stored[ONEDNN]


def recorded():
    """What a run records: a dictionary of variables, None where unset."""
    return {name: os.environ.get(name) for name in NAMES}


def in_words(stored):
    """The same with words for None and for what was not recorded."""
    return {name: stored.get(name) or "unset" for name in NAMES}


def as_given():
    """The environment as the user gave it, for a process that is to choose by itself."""
    environment = dict(os.environ)
    if _given is None:
        environment.pop(ONEDNN, None)
    return environment


def _tensorflow_is_imported():
    return "tensorflow" in sys.modules


def _has_onednn():
    from tensorflow.python.util import _pywrap_util_port

    return _pywrap_util_port.IsMklEnabled()
