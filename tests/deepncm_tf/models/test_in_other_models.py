# SPDX-License-Identifier: Apache-2.0
"""A classifier as a layer of any Keras model: it learns where it gets the labels."""

import keras
import numpy as np
import pytest
from helpers import random_images, small_backbone, small_model
from methods import OF_EACH_KIND, rows_of
from small_segmenters import segmenter

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import NeighborhoodComponents, OnlineMean

C, N = 3, 48
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def models(classifier, **inputs):
    """A model that trains a classifier with labels, and one that predicts by it."""
    images = keras.Input((4, 4, 3), name="image")
    labels = keras.Input((), dtype="int32", name="label")
    features = keras.layers.Dense(6)(keras.layers.Flatten()(images))
    training = keras.Model(
        {"image": images, "label": labels, **inputs}, classifier(features, labels, **inputs)
    )
    training.compile(keras.optimizers.SGD(0.01), LOSS, metrics=["accuracy"])
    predicting = keras.Model(images, classifier(features))
    predicting.compile(loss=LOSS, metrics=["accuracy"])
    return training, predicting


@pytest.mark.parametrize(("cls", "arguments"), rows_of(["nca"], OF_EACH_KIND))
def test_labels_reach_it_by_the_functional_api(cls, arguments):
    images, labels = random_images(N)
    if cls is NeighborhoodComponents:
        arguments = {**arguments, "bank_size": N, "bank_labels": labels}
        index = {"index": keras.Input((), dtype="int32", name="index")}
    else:
        index = {}
    classifier = cls(C, **arguments)
    training, predicting = models(classifier, **index)
    x = {"image": images, "label": labels}
    if index:
        x["index"] = np.arange(N, dtype="int32")
    history = training.fit(x, labels, batch_size=8, epochs=4, verbose=0).history
    figures = predicting.evaluate(images, labels, verbose=0, return_dict=True)
    assert np.isfinite(history["loss"]).all()
    if classifier.has_state:  # weights alone learn more slowly
        assert figures["accuracy"] > 0.6


def test_the_state_is_that_of_updates_and_only_of_training():
    classifier = OnlineMean(C)
    training, _ = models(classifier)
    images, labels = random_images(N)
    x = {"image": images, "label": labels}
    training.fit(x, labels, epochs=2, verbose=0)
    counts = 2 * np.bincount(labels, minlength=C)
    assert classifier.counts.numpy().tolist() == counts.tolist()
    training.evaluate(x, labels, verbose=0)
    training.predict(x, verbose=0)
    assert classifier.counts.numpy().tolist() == counts.tolist()
    classifier.trainable = False
    training.compile("sgd", LOSS)
    training.fit(x, labels, verbose=0)
    assert classifier.counts.numpy().tolist() == counts.tolist()


def test_a_model_with_labels_is_saved(tmp_path):
    training, _ = models(OnlineMean(C))
    images, labels = random_images(N)
    x = {"image": images, "label": labels}
    training.fit(x, labels, verbose=0)
    training.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = training.predict(x, verbose=0)
    np.testing.assert_allclose(loaded.predict(x, verbose=0), expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: small_model(compile=False, embedding_dim=5),
        lambda: small_model(compile=False, normalize=True),
        lambda: segmenter(OnlineMean(C), compile=False),
    ],
    ids=["DeepNCM", "normalized", "Segmenter"],
)
def test_features_of_a_model_reach_another(make, dtype, tmp_path):
    keras.config.set_dtype_policy(dtype)
    model = make()
    keras.config.set_dtype_policy("float32")
    image = keras.Input(model.backbone.inputs[0].shape[1:], name="image")
    found = model(image, return_features=True)
    images = np.random.default_rng(0).normal(size=(3, *image.shape[1:])).astype("float32")
    expected = model(images, return_features=True)
    assert [(*x.shape[1:], x.dtype) for x in found] == [
        (*x.shape[1:], keras.backend.standardize_dtype(x.dtype)) for x in expected
    ]
    other = keras.Model(image, list(found))
    other.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for whole in (other, loaded):
        for one, values in zip(whole(images), expected, strict=True):
            np.testing.assert_array_equal(
                *(keras.ops.cast(x, "float32") for x in (one, values))
            )
    assert model(image).dtype == "float32"
    assert tuple(model(image).shape) == (None, *expected[0].shape[1:])


def test_a_subclass_whose_call_takes_and_gives_more_in_another_model():
    class Masked(DeepNCM):
        def call(self, inputs, mask=None, training=False, return_features=False):
            return super().call(inputs, training, return_features)

    class Named(DeepNCM):
        def compute_output_shape(self, input_shape):
            return {"logits": super().compute_output_shape(input_shape)}

        def call(self, inputs, training=False, return_features=False):
            return {"logits": super().call(inputs, training)}

    image = keras.Input((4, 4, 3), name="image")
    model = Masked(small_backbone(), OnlineMean(C))
    assert tuple(model(image).shape) == (None, C)
    assert len(model(image, return_features=True)) == 2
    assert list(Named(small_backbone(), OnlineMean(C))(image)) == ["logits"]


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["evaluate", "predict"])
def test_one_that_was_never_updated_warns_once(name):
    images, labels = random_images(8)
    layers = [keras.Input((4, 4, 3)), keras.layers.Flatten(), OnlineMean(C)]
    model = keras.Sequential(layers)
    model.compile("sgd", LOSS)
    arguments = (images, labels) if name == "evaluate" else (images,)
    message = r"learned nothing.*DeepNCM\(.*layer\(features, labels\)"
    with pytest.warns(UserWarning, match=message):
        getattr(model, name)(*arguments, verbose=0)
    getattr(model, name)(*arguments, verbose=0)  # a second warning would be an error


def test_one_that_has_learned_by_itself_does_not_warn():
    images, labels = random_images(8)
    classifier = OnlineMean(C)
    classifier.update(images.reshape(8, 48), labels)
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), classifier])
    model.predict(images, verbose=0)  # a warning would be an error
