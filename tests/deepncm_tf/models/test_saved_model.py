# SPDX-License-Identifier: Apache-2.0
"""A model that was saved and loaded is the same, and trains on alike."""

import keras
import numpy as np
import pytest
from helpers import random_images, small_model
from small_segmenters import images_and_masks, maps

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import DecayMean, Softmax
from deepncm_tf.models.segmenter import Segmenter
from official_resnet import cifar_resnet

C = 3


def test_a_loaded_model_is_the_same_and_trains_on_alike(tmp_path):
    images, labels = random_images(20)
    model = DeepNCM(
        cifar_resnet(8, input_shape=(8, 8, 3)), DecayMean(C), gradient_clip=0.5, l2=1e-3
    )
    images = np.tile(images, (1, 2, 2, 1))
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), metrics=["accuracy"])
    model.fit(images, labels, verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.classifier.get_config() == model.classifier.get_config()
    assert (loaded.gradient_clip, loaded.l2, loaded.embedding_dim) == (0.5, 1e-3, None)
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0)
    )
    histories = [
        m.fit(images, labels, verbose=0, shuffle=False, epochs=2).history
        for m in (model, loaded)
    ]
    assert histories[0] == histories[1]
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_alone(tmp_path):
    images, labels = random_images(10)
    model, other = small_model(), small_model()
    model.fit(images, labels, verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(
        other.predict(images, verbose=0), model.predict(images, verbose=0)
    )


def test_the_embedding_has_the_models_precision(tmp_path):
    """A bfloat16 model gives the same logits where the default policy is float32."""
    images, labels = random_images(20)
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = small_model(embedding_dim=4)
    model.fit(images, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    expected = model.predict(images, verbose=0)
    keras.config.set_dtype_policy("float32")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), expected)


@pytest.mark.parametrize("kind", ["embedding", "decoder", "auxiliary_head"])
def test_what_is_frozen_stays_frozen_and_trains_on_alike(tmp_path, kind):
    """Parts that the model made of arguments; its layers keep their dtypes, too."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    if kind == "embedding":
        x, y = random_images(10)
        model = small_model(embedding_dim=4)
    else:
        x, y = images_and_masks(4)
        model = Segmenter(maps(), Softmax(C), "fcn", 4, dropout=0.0, auxiliary_weight=0.4)
    getattr(model, kind).trainable = False
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(x, y, verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("float32")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert len(loaded.trainable_variables) == len(model.trainable_variables)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    for each in (model, loaded):
        each.fit(x, y, verbose=0, shuffle=False)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["fcn", "deeplabv3"])
def test_single_layers_of_a_decoder_stay_frozen_and_all_in_their_precision(tmp_path, name):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = Segmenter(maps(), Softmax(C), name, 4, dropout=0.1, auxiliary_weight=0.4)
    convolutions = [x for x in model.decoder.layers if isinstance(x, keras.layers.Conv2D)]
    convolutions[1].trainable = False
    model.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("float32")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert keras.config.dtype_policy().name == "float32"
    for part in ("decoder", "auxiliary_head"):
        layers = [getattr(m, part)._flatten_layers() for m in (model, loaded)]
        assert [x.trainable for x in layers[1]] == [x.trainable for x in layers[0]]
        assert [x.dtype_policy for x in layers[1]] == [x.dtype_policy for x in layers[0]]


def test_a_subclass_that_makes_itself_of_its_whole_config():
    @keras.saving.register_keras_serializable("test_saved_model")
    class Own(DeepNCM):
        @classmethod
        def from_config(cls, config):
            parts = ("backbone", "classifier")
            return cls(
                **config
                | {p: keras.saving.deserialize_keras_object(config[p]) for p in parts}
            )

    model = Own(cifar_resnet(8, input_shape=(8, 8, 3)), DecayMean(C), embedding_dim=2)
    assert Own.from_config(model.get_config()).embedding_dim == 2
