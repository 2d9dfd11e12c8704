# SPDX-License-Identifier: Apache-2.0
"""The part of a DeepNCM before its classifier: backbone and optional embedding."""

import warnings

import keras

from deepncm_tf.models import inputs as model_inputs
from deepncm_tf.models import padding
from deepncm_tf.models.backend_step import BackendStep
from deepncm_tf.numerics.clustering import unit
from official_resnet import BatchNormalization


class FeatureModel(BackendStep):
    """From inputs to the features that the classifier gets.

    Args:
        backbone: `keras.Model` (or layer) from inputs to features.
        embedding: Layer on the features, or None.
        normalize: Bool, whether features are scaled to unit length.
    """

    def __init__(self, backbone, embedding, normalize=False):
        super().__init__(name="feature_model")
        self.normalize = normalize
        self.backbone = backbone
        self.embedding = embedding

    def call(self, inputs, training=False):
        x, _ = model_inputs.unpack_inputs(inputs)
        return extract_features(self.backbone, self.embedding, self.normalize, x, training)


def check_features(features, name):
    """Raises a `ValueError` unless a model gives one tensor of features, with d known.

    Args:
        features: What it gives, a structure of tensors.
        name: String, name of the argument with the model.
    """
    shape = tuple(getattr(features, "shape", ()))
    if len(shape) < 2 or shape[-1] is None:
        shapes = keras.tree.map_structure(lambda part: tuple(part.shape), features)
        raise ValueError(
            f"`{name}` must give one tensor of features, (batch, ..., d) with d known. "
            f"Received: one that gives shapes {shapes}"
        )


def warn_of_mask(features):
    """Warns where padding in features, of which a Keras mask tells, would count."""
    if getattr(features, "_keras_mask", None) is not None:
        warnings.warn(
            "The features have a mask, which loss, metrics and class means do not follow: "
            "positions that are padding count as any others. Give them a label of no "
            "class, and DeepNCM that label as its `ignore_class`, which is None.",
            stacklevel=2,
        )


def extract_features(backbone, embedding, normalize, x, training):
    features = padding.features_of(backbone, model_inputs.as_taken(backbone, x), training)
    if embedding is not None:
        features = embedding(features)
    if normalize:  # in float32 or wider, where lengths neither overflow nor vanish
        wide = keras.backend.result_type(features.dtype, "float32")
        features = unit(keras.ops.cast(features, wide))
    return features


def batch_norm_variables(backbone):
    """Scales and shifts of batch normalization in a backbone, a list of variables."""
    kinds = (BatchNormalization, keras.layers.BatchNormalization)
    layers = [layer for layer in backbone._flatten_layers() if isinstance(layer, kinds)]
    return [variable for layer in layers for variable in layer.trainable_variables]
