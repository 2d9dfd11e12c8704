# SPDX-License-Identifier: Apache-2.0
"""Backbones of other kinds: not built yet, subclassed, frozen."""

import keras
import numpy as np
import pytest
from helpers import class_sums, random_images, small_backbone

from deepncm_tf import DeepNCM, backbones
from deepncm_tf.classifiers import DecayMean, OnlineMean
from deepncm_tf.distribution import strategies
from deepncm_tf.models import decoders

C = 3
MAPS = [(None, 6, 8, 4), (None, 3, 4, 6)]
NETWORKS = {
    "resnet8": lambda: backbones.get("resnet8", (32, 48, 3)),
    "resnet18": lambda: backbones.get("resnet18", (32, 48, 3)),
    "resnet50": lambda: backbones.get("resnet50", (32, 48, 3), output_stride=8),
    "efficientnet_lite0": lambda: backbones.get("efficientnet_lite0", (32, 48, 3)),
    "fcn": lambda: decoders.get("fcn", MAPS, width=5),
    "deeplabv3": lambda: decoders.get("deeplabv3", MAPS, width=5),
    "upernet": lambda: decoders.get("upernet", MAPS, width=5),
    "auxiliary head": lambda: decoders.auxiliary_head(MAPS[0], C, width=5),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_come_last_whatever_keras_is_set_to(name):
    expected = NETWORKS[name]()
    keras.config.set_image_data_format("channels_first")
    network = NETWORKS[name]()
    assert network.output_shape == expected.output_shape
    assert [v.shape for v in network.weights] == [v.shape for v in expected.weights]
    formats = {getattr(layer, "data_format", None) for layer in network._flatten_layers()}
    assert formats == {None, "channels_last"}


def test_a_backbone_that_is_not_built_yet():
    backbone = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
    model = DeepNCM(backbone, OnlineMean(C), embedding_dim=3)
    model.compile("sgd")
    assert model.embed(np.ones((2, 4, 4, 3)), verbose=0).shape == (2, 3)
    images, labels = random_images(10)
    model.fit(images, labels, verbose=0)
    assert model.embed(images, verbose=0).shape == (10, 3)


@keras.saving.register_keras_serializable(package="tests")
class PatchBackbone(keras.Model):
    """A subclassed backbone with a position table, and a weight that is never used."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flatten = keras.layers.Flatten()
        self.project = keras.layers.Dense(4)
        self.positions = keras.layers.Embedding(3, 4)

    def build(self, input_shape):
        self.project.build((None, int(np.prod(input_shape[1:]))))
        self.positions.build()
        self.unused = self.add_weight(shape=(2,), name="unused")
        super().build(input_shape)

    def call(self, images):
        rows = keras.ops.ones((1,), dtype="int32")
        return self.project(self.flatten(images)) + self.positions(rows)


@pytest.mark.parametrize("gradient_clip", [None, 1.0])
def test_a_subclassed_backbone(gradient_clip, tmp_path):
    images, labels = random_images(20)
    model = DeepNCM(PatchBackbone(), DecayMean(C), gradient_clip=gradient_clip)
    model.compile(keras.optimizers.SGD(0.05), metrics=["accuracy"])
    table = None
    history = model.fit(images, labels, epochs=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    table = model.backbone.positions.get_weights()[0]
    model.fit(images, labels, verbose=0)
    changed = (model.backbone.positions.get_weights()[0] != table).any(axis=1)
    np.testing.assert_array_equal(changed, [False, True, False])
    assert model.embed(images, verbose=0).shape == (20, 4)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0)
    )


def test_frozen_features():
    """Class means of a fixed network: nothing is trained but the means."""
    images, labels = random_images(60)
    backbone = small_backbone()
    backbone.trainable = False
    model = DeepNCM(backbone, OnlineMean(C), l2=1e-3, gradient_clip=1.0)
    model.compile("sgd", metrics=["accuracy"])
    model.fit(images, labels, verbose=0)
    features = model.embed(images, verbose=0)
    sums, counts = class_sums(features, labels, C)
    np.testing.assert_allclose(
        model.classifier.means.numpy(), sums / counts[:, None], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("policy", "num_devices"),
    [
        ("float32", 1),
        pytest.param("float32", 2, marks=pytest.mark.thorough),
        pytest.param("mixed_float16", 1, marks=pytest.mark.thorough),
        ("mixed_float16", 2),
    ],
)
def test_steps_of_frozen_features_are_counted(policy, num_devices):
    """Schedules and checkpoints go by them."""
    keras.config.set_dtype_policy(policy)
    images, labels = random_images(20)
    strategy = strategies.get_strategy("mirrored", num_devices)
    with strategy.scope():
        backbone = small_backbone()
        backbone.trainable = False
        model = DeepNCM(backbone, DecayMean(C))
        optimizer = keras.optimizers.SGD(0.1)
        if policy == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model.compile(optimizer)
    model.fit(images, labels, batch_size=8, epochs=2, verbose=0)
    assert int(model.optimizer.iterations.numpy()) == 6
