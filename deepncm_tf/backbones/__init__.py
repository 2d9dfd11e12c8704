# SPDX-License-Identifier: Apache-2.0
"""Networks from images to features: their names, their input, their pretrained weights.

What the flags need of a backbone, its name and what it takes, needs neither Keras nor
TensorFlow.
"""

from deepncm_tf.backbones.registry import Backbone, find, get

__all__ = ["Backbone", "find", "get"]
