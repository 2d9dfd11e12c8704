# SPDX-License-Identifier: Apache-2.0
"""Statistics are joined only where both models give the same features."""

import keras
import numpy as np
import pytest
from helpers import random_images, to_numpy

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import OnlineMean

C = 3
IMAGES, LABELS = random_images(6, C)
WEIGHTS = [np.full((48, 5), 0.1, "float32"), np.ones(5, "float32")]


def taught(scale=1.0, activation="relu", factor=2.0, swapped=False, **kwargs):
    """Models of the same weights."""
    image = keras.Input((4, 4, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(scale)(image)) * factor
    own = keras.layers.Dense(5, activation=activation)(x)
    pair = [own, keras.layers.Dropout(0.1)(own)]
    features = keras.layers.Subtract()(pair[::-1] if swapped else pair)
    model = DeepNCM(keras.Model(image, features), OnlineMean(C), **kwargs)
    model.backbone.set_weights(WEIGHTS)
    model.adapt(IMAGES, LABELS, verbose=0)
    return model


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 0.5}, r"layers\[1\]\.config\.scale=0\.5, and here 1\.0"),
        ({"factor": 3.0}, "=3.0, and here 2.0"),
        ({"activation": "relu6"}, r"\.activation='relu6', and here 'relu'"),
        ({"swapped": True}, r"keras_history\[0\]=5, and here 4"),
        ({"normalize": True}, "Received: normalize=True, and here False"),
        ({"ignore_class": 1}, "Received: ignore_class=1, and here None"),
        ({"dtype": "float64"}, "Received: dtype_policy=.*float64.*, and here .*float32"),
        ({"embedding_dim": 4}, "the same embedding.*, and here None"),
    ],
)
def test_what_differs_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        taught().merge_statistics(taught(**settings))


def test_names_and_what_only_training_knows_may_differ(tmp_path):
    model = taught()
    model.save(tmp_path / "model.keras")
    other = keras.models.load_model(tmp_path / "model.keras")
    other.backbone.trainable = False
    counts = 2 * np.bincount(LABELS)
    for one in (other, taught()):
        joined = model.merge_statistics(one)
        assert to_numpy(joined.classifier.counts).tolist() == counts.tolist()


def test_a_backbone_that_tells_nothing_of_itself():
    class Halves(keras.layers.Layer):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def call(self, x):
            return self.function(x[:, 0, 0])

    models = [DeepNCM(Halves(keras.ops.sin), OnlineMean(C)) for _ in range(2)]
    for model in models:
        model.adapt(IMAGES, LABELS, verbose=0)
    assert models[0].merge_statistics(models[1]).num_classes == C
