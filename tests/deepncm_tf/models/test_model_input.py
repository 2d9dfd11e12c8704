# SPDX-License-Identifier: Apache-2.0
"""DeepNCM given what it cannot take: each error says what is wrong."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import random_images, small_backbone, small_model

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import DecayMean, NeighborhoodComponents, OnlineMean

C = 3


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embedding_dim": 0}, "Received: embedding_dim=0"),
        ({"gradient_clip": 0.0}, "Received: gradient_clip=0.0"),
        ({"gradient_clip": "1"}, "Received: gradient_clip='1'"),
        ({"embedding_dim": 2.5}, r"Received: embedding_dim=2\.5"),
        ({"gradient_clip": -1}, "Received: gradient_clip=-1"),
        ({"l2": -1e-4}, "Received: l2=-0.0001"),
        ({"l2": float("nan")}, "Received: l2=nan"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        small_model(**arguments)


@pytest.mark.bad_input
def test_bad_backbone():
    with pytest.raises(ValueError, match="Received: backbone='resnet'"):
        DeepNCM("resnet", OnlineMean(C))


def backbone_of(outputs, shape=(4,)):
    x = keras.Input(shape)
    return keras.Model(x, outputs(x))


class TwoOutputs(keras.Model):
    def call(self, x, training=False):
        return x, x


@pytest.mark.bad_input
@pytest.mark.parametrize("embedding_dim", [None, 5])
@pytest.mark.parametrize(
    ("backbone", "shapes"),
    [
        (lambda: backbone_of(lambda x: [x, x]), r"\[\(None, 4\), \(None, 4\)\]"),
        (lambda: backbone_of(lambda x: {"f": x}), r"\{'f': \(None, 4\)\}"),
        (lambda: backbone_of(lambda x: x, (None,)), r"\(None, None\)"),
        (lambda: backbone_of(keras.layers.Reshape(()), (1,)), r"\(None,\)"),
        (
            lambda: keras.Sequential([keras.Input((None, 3)), keras.layers.Flatten()]),
            r"\(None, None\)",
        ),
        (TwoOutputs, r"\(\(None, 4\), \(None, 4\)\)"),
    ],
)
def test_backbones_without_one_tensor_of_features(backbone, shapes, embedding_dim):
    message = f"`backbone` must give one tensor of features, .*Received: .* shapes {shapes}"
    with pytest.raises(ValueError, match=message):
        model = DeepNCM(backbone(), OnlineMean(C), embedding_dim=embedding_dim)
        model.adapt(np.zeros((4, 4), "float32"), np.zeros(4), verbose=0)


def test_a_backbone_with_its_one_output_in_a_list():
    model = DeepNCM(backbone_of(lambda x: [keras.layers.Identity()(x)]), OnlineMean(C))
    assert model.predict(np.zeros((2, 4), "float32"), verbose=0).shape == (2, C)


@pytest.mark.bad_input
def test_bad_classifier():
    with pytest.raises(ValueError, match="Received: classifier='decay'"):
        DeepNCM(small_backbone(), "decay")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        "categorical_focal_crossentropy",
        keras.losses.sparse_categorical_crossentropy,
        keras.losses.CategoricalCrossentropy(),
    ],
)
def test_a_loss_of_probabilities_is_refused(loss):
    with pytest.raises(ValueError, match="`loss` must take logits"):
        small_model(compile=False).compile("sgd", loss=loss)


@pytest.mark.bad_input
def test_a_loss_that_parts_of_a_batch_do_not_add_up_to():
    model = small_model(compile=False, accumulate_steps=2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    with pytest.raises(ValueError, match=r"`accumulate_steps` is above 1\. Rec"):
        model.compile("sgd", loss=loss)


@pytest.mark.bad_input
def test_more_images_than_rows_in_the_bank():
    images, labels = random_images(20, C)
    model = small_model(NeighborhoodComponents(C, 10))
    message = "`bank_size` must be .* Received: bank_size=10 with 20 samples"
    with pytest.raises(ValueError, match=message):
        model.fit(images, labels, verbose=0)
    x = {"image": images[:2], "index": np.array([0, 10])}
    with pytest.raises(ValueError, match=r"`index` must be .* Received: an index of 10"):
        model.fit(x, labels[:2], verbose=0)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(9, int), r"a label for each of 10 rows. Received: shape \(9,\)"),
        (np.zeros((10, C), int), r"Received: shape \(10, 3\)"),
        (np.arange(10), "integers from 0 to 2, or -1 where unknown. Received: 0 to 9"),
        (np.zeros(10), "integers from 0 to 2.*Received: 0 to 0, <?.*float"),
    ],
)
def test_labels_of_a_bank_that_are_none(labels, message):
    with pytest.raises(ValueError, match=message):
        NeighborhoodComponents(C, 10, bank_labels=labels)


@pytest.mark.bad_input
def test_a_bank_of_images_not_of_places():
    backbone = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
    with pytest.raises(ValueError, match=r"Features must be \(batch, d\).*pool them"):
        DeepNCM(backbone, NeighborhoodComponents(C, 10))


@pytest.mark.bad_input
def test_inputs_without_images():
    images, labels = random_images(4, C)
    with pytest.raises(ValueError, match=r"Received: a dictionary with \['img'\]"):
        small_model().fit({"img": images}, labels, verbose=0)


def test_numbers_of_numpy():
    model = small_model(
        DecayMean(C, decay=np.float32(0.5)), gradient_clip=np.float32(1), l2=0
    )
    clone = DeepNCM.from_config(model.get_config())
    assert (clone.classifier.decay, clone.gradient_clip) == (0.5, 1.0)


@pytest.mark.bad_input
def test_no_labels():
    model = small_model()
    with pytest.raises(ValueError, match="`y`, the labels, must be given"):
        model.fit(np.zeros((4, 4, 4, 3), "float32"), verbose=0)
    with pytest.raises(ValueError, match=r"weights of 3 classes.* y of shape \(None, 5\)"):
        model.fit(np.zeros((4, 4, 4, 3), "float32"), np.zeros((4, 5)), verbose=0)


@pytest.mark.bad_input
def test_no_samples():
    model, (images, labels) = small_model(), random_images(4)
    empty = tf.data.Dataset.from_tensor_slices((images[:0], labels[:0])).batch(2)
    for refused in (
        lambda: model.fit(images[:0], labels[:0], verbose=0),
        lambda: model.fit(empty, verbose=0),
        lambda: model.evaluate(images[:0], labels[:0], verbose=0),
        lambda: model.evaluate(empty, verbose=0),
        lambda: model.predict(images[:0], verbose=0),
        lambda: model.embed(images[:0]),
    ):
        with pytest.raises(ValueError, match="`x` must hold at least one sample"):
            refused()


@pytest.mark.bad_input
@pytest.mark.parametrize("shape", [(5, 5, 3), (4, 4, 1), (48,)])
def test_images_of_another_shape(shape):
    model, images = small_model(), np.zeros((4, *shape), "float32")
    for refused in (
        lambda: model.fit(images, np.zeros(4), verbose=0),
        lambda: model.evaluate(images, np.zeros(4), verbose=0),
        lambda: model.predict(images, verbose=0),
        lambda: model.embed(images, verbose=0),
        lambda: model(images),
    ):
        with pytest.raises(ValueError, match=r"shape \(batch, 4, 4, 3\), as the model"):
            refused()


@pytest.mark.bad_input
def test_a_single_image():
    model, image = small_model(), np.zeros((4, 4, 3), "float32")
    message = r"Received: shape \(4, 4, 3\); a single sample needs a batch axis"
    for refused in (
        lambda: model.fit(image, np.zeros(1), verbose=0),
        lambda: model.evaluate(image, np.zeros(1), verbose=0),
        lambda: model.predict(image, verbose=0),
        lambda: model.predict({"image": image}, verbose=0),
        lambda: model.embed(image, verbose=0),
        lambda: model(image),
    ):
        with pytest.raises(ValueError, match=message):
            refused()


class Batches(keras.utils.PyDataset):
    """Two batches of images and labels."""

    def __len__(self):
        return 2

    def __getitem__(self, number):
        images, labels = random_images(8)
        return images[4 * number : 4 * number + 4], labels[4 * number : 4 * number + 4]


def test_features_of_everything_that_predict_takes():
    model, (images, labels) = small_model(), random_images(8)
    expected = model.embed(images, verbose=0)
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    generator = ((batch,) for batch in (images[:4], images[4:]))
    for x in (Batches(), generator, dataset, {"image": images}, tf.constant(images)):
        steps = 2 if x is generator else None
        actual = model.embed(x, verbose=0, steps=steps)
        np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.bad_input
@pytest.mark.parametrize("wrap", ["sequential", "functional", "subclass"])
def test_a_classifier_in_another_model_warns_once(wrap):
    layers = [keras.layers.Flatten(), keras.layers.Dense(4), OnlineMean(C)]
    if wrap == "subclass":

        class Other(keras.Model):
            def __init__(self):
                super().__init__()
                self.inner = small_model(compile=False)

            def call(self, x, training=False):
                return self.inner(x)

        model = Other()
    elif wrap == "functional":
        x = keras.Input((4, 4, 3))
        model = keras.Model(x, layers[2](layers[1](layers[0](x))))
    else:
        model = keras.Sequential([keras.Input((4, 4, 3)), *layers])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images, labels = random_images(4)
    message = r"OnlineMean learns nothing here.*DeepNCM.* Received: a classifier inside "
    with pytest.warns(UserWarning, match=message):
        model.fit(images, labels, verbose=0)
    model.fit(images, labels, verbose=0)  # a second warning would be an error


def test_no_warning_in_a_model_with_a_step_of_its_own():
    classifier = OnlineMean(C)

    class Own(keras.Model):
        def call(self, x, training=False):
            return classifier(keras.ops.reshape(x, (-1, 48)), training=training)

        def train_step(self, data):
            classifier.update(keras.ops.reshape(data[0], (-1, 48)), data[1])
            return {"loss": keras.ops.mean(self(data[0], training=True))}

    model = Own()
    classifier.build((None, 48))
    model.compile("sgd", run_eagerly=True)
    images, labels = random_images(4)
    model.fit(images, labels, verbose=0)  # a warning would be an error
    assert classifier(images.reshape(4, 48), training=True).shape == (4, C)
