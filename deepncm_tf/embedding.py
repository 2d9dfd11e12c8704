# SPDX-License-Identifier: Apache-2.0
"""The part of a DeepNCM before its classifier: backbone and optional embedding."""

import keras


class FeatureModel(keras.Model):
    """From images to the features that the classifier gets.

    Args:
        backbone: `keras.Model` (or layer) from images to features.
        embedding: Layer on the features, or None.
    """

    def __init__(self, backbone, embedding):
        super().__init__(name="feature_model")
        self.backbone = backbone
        self.embedding = embedding

    def call(self, inputs, training=False):
        image, _ = unpack_inputs(inputs)
        return extract_features(self.backbone, self.embedding, image, training)


def extract_features(backbone, embedding, image, training):
    features = backbone(image, training=training)
    return features if embedding is None else embedding(features)


def unpack_inputs(inputs):
    """Splits what the data pipeline gives into images and indices (or None)."""
    if isinstance(inputs, dict):
        return inputs["image"], inputs.get("index")
    return inputs, None
