# SPDX-License-Identifier: Apache-2.0
"""Networks from images to features: their names, their input, their pretrained weights.

What the flags need of a backbone, its name and what it takes, needs neither Keras nor
TensorFlow.
"""

from deepncm_tf.backbones.registry import (
    PRETRAINED,
    STANDARDIZED,
    WANTED,
    Backbone,
    find,
    get,
    is_known,
)

__all__ = ["PRETRAINED", "STANDARDIZED", "WANTED", "Backbone", "find", "get", "is_known"]
