# SPDX-License-Identifier: Apache-2.0
"""The part of a DeepNCM before its classifier: backbone and optional embedding."""

import keras

from deepncm_tf.models import padding
from deepncm_tf.numerics.clustering import unit
from deepncm_tf.numerics.labels import known_shape


class FeatureModel(keras.Model):
    """From images to the features that the classifier gets.

    Args:
        backbone: `keras.Model` (or layer) from images to features.
        embedding: Layer on the features, or None.
        normalize: Bool, whether features are scaled to unit length.
    """

    def __init__(self, backbone, embedding, normalize=False):
        super().__init__(name="feature_model")
        self.normalize = normalize
        self.backbone = backbone
        self.embedding = embedding

    def call(self, inputs, training=False):
        image, _ = unpack_inputs(inputs)
        return extract_features(
            self.backbone, self.embedding, self.normalize, image, training
        )


def extract_features(backbone, embedding, normalize, image, training):
    features = padding.features_of(backbone, image, training)
    if embedding is not None:
        features = embedding(features)
    if normalize:  # in float32 or wider, where lengths neither overflow nor vanish
        wide = keras.backend.result_type(features.dtype, "float32")
        features = unit(keras.ops.cast(features, wide))
    return features


def unpack_inputs(inputs):
    """Splits what the data pipeline gives into images and indices (or None)."""
    if isinstance(inputs, dict):
        if "image" not in inputs:
            raise ValueError(
                '`x` must be images, or a dictionary with "image" and maybe "index". '
                f"Received: a dictionary with {sorted(inputs)}"
            )
        return inputs["image"], inputs.get("index")
    return inputs, None


def check_shape(image, wanted):
    """Raises a `ValueError` unless images have the shape that a model was built for.

    Args:
        image: Tensor or array of images.
        wanted: Tuple, the shape with its batch axis; None where a size may vary.
    """
    shape = known_shape(image, "x")
    if len(shape) == len(wanted) and all(
        a is None or b is None or a == b for a, b in zip(shape[1:], wanted[1:], strict=True)
    ):
        return
    sizes = ", ".join(map(str, ("batch", *wanted[1:])))
    text = (
        f"`x` must be images of shape ({sizes}), as the model was built for. "
        f"Received: shape {shape}"
    )
    if len(shape) == len(wanted) - 1:
        text += "; a single image needs a batch axis in front, x[None]"
    raise ValueError(text)
