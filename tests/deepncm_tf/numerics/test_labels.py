# SPDX-License-Identifier: Apache-2.0
"""Labels and sample weights in every form, and those that are none."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import random_images, small_model
from methods import KIND_IDS, MOST_STATE, OF_EACH_KIND, rows_of

from deepncm_tf.classifiers import OnlineMean, SubCentroids
from deepncm_tf.numerics import labels

C = 3
NUMBERS = np.array([0, 2, 1, 1, 0, 2, 2, 0])
ONE_HOT = np.eye(C)[NUMBERS]
FORMS = {
    "column": NUMBERS[:, None],
    "uint8": NUMBERS.astype("uint8"),
    "int64": NUMBERS.astype("int64"),
    "float64": NUMBERS.astype("float64"),
    "bool_one_hot": ONE_HOT.astype(bool),
    "int_one_hot": ONE_HOT.astype("int8"),
    "float_one_hot": ONE_HOT.astype("float16"),
}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
each_kind = pytest.mark.parametrize(("cls", "arguments"), OF_EACH_KIND, ids=KIND_IDS)


def small(cls, arguments, **kwargs):
    """A model of which nothing is traced, unless asked for: that takes longer."""
    keras.utils.set_random_seed(0)
    model = small_model(cls(C, **arguments), compile=False)
    kwargs = {"metrics": ["accuracy"], "run_eagerly": True, **kwargs}
    model.compile(keras.optimizers.SGD(0.1), **kwargs)
    return model


def train(cls, arguments, y, sample_weight=None):
    """Figures and weights after an epoch on eight images."""
    model = small(cls, arguments)
    images, _ = random_images(len(NUMBERS))
    fit = model.fit(images, y, sample_weight=sample_weight, verbose=0, shuffle=False)
    figures = model.evaluate(images, y, sample_weight=sample_weight, verbose=0)
    return fit.history, figures, model.get_weights()


@each_kind
def test_every_form_trains_alike(cls, arguments):
    expected = train(cls, arguments, NUMBERS)
    for name in ("column", "bool_one_hot"):
        history, figures, weights = train(cls, arguments, FORMS[name])
        np.testing.assert_allclose(history["loss"], expected[0]["loss"], rtol=1e-5)
        np.testing.assert_allclose(figures, expected[1], rtol=1e-5)
        for a, b in zip(weights, expected[2], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@each_kind
def test_a_column_of_weights_is_a_vector_of_them(cls, arguments):
    weights = np.array([1.0, 0.0, 2.0, 1.0, 1.0, 0.0, 3.0, 1.0], "float32")
    expected = train(cls, arguments, NUMBERS, weights)
    actual = train(cls, arguments, NUMBERS, weights[:, None])
    for a, b in zip(actual[2], expected[2], strict=True):
        np.testing.assert_array_equal(a, b)
    assert actual[0] == expected[0]


@every_form
def test_numbers_of_every_form(form):
    expected = NUMBERS
    normalized = labels.normalize(form, C, 2)
    if labels.is_class_weights(normalized, 2):
        normalized = normalized.numpy().argmax(axis=-1)
    np.testing.assert_array_equal(normalized, expected)
    np.testing.assert_array_equal(labels.to_class_numbers(form, "y", 8, C), expected)


def test_what_is_no_integer_becomes_no_class():
    given = np.array([1.0, np.nan, 0.5, -2.0, 3e9, np.inf])
    np.testing.assert_array_equal(labels.normalize(given, C, 2), [1, -1, -1, -2, -1, -1])
    wide = np.array([2, 2**32 + 1, -(2**40)])
    np.testing.assert_array_equal(labels.normalize(wide, C, 2), [2, -1, -1])
    unsigned = np.array([2, 2**63], "uint64")
    np.testing.assert_array_equal(labels.normalize(unsigned, C, 2), [2, -1])


@pytest.mark.parametrize(
    ("shape", "labels_shape", "expected"),
    [
        ((4, 1), (4,), (4,)),
        ((4, 1), (4, 5), (4,)),
        ((4, 5, 1), (4, 5), (4, 5)),
        ((4, 1), (4, 1), (4, 1)),
        ((4, 1, 1), (4, 5, 6), (4,)),
    ],
)
def test_shapes_of_weights(shape, labels_shape, expected):
    weights = labels.normalize_weights(np.ones(shape, bool), labels_shape)
    assert tuple(weights.shape) == expected
    assert keras.backend.is_float_dtype(weights.dtype)


@pytest.mark.parametrize("places", [2, 3])  # as many as samples, and not
def test_weights_are_multiplied_sample_by_sample(places):
    of_samples, of_places = np.array([1.0, 3.0]), np.arange(2.0 * places).reshape(2, -1)
    expected = of_samples[:, None] * of_places
    for pair in ((of_samples, of_places), (of_places, of_samples)):
        np.testing.assert_array_equal(labels.multiply_weights(*pair), expected)


@pytest.mark.bad_input
@pytest.mark.parametrize("shape", [(4, 4), (3,), (), (4, 5, 6)])
def test_weights_of_other_shapes(shape):
    with pytest.raises(ValueError, match=r"`sample_weight` must have a weight for each"):
        labels.normalize_weights(np.ones(shape), (4,))


@pytest.mark.bad_input
@each_kind
def test_weights_for_pairs_of_samples_are_refused(cls, arguments):
    """`(n, n)` weights would broadcast."""
    with pytest.raises(ValueError, match=r"`sample_weight` must.*Received.*\(\w+, 8\)"):
        train(cls, arguments, NUMBERS, np.ones((8, 8), "float32"))


WRONG_LABELS = {
    "3": np.where(NUMBERS == 2, 3, NUMBERS),
    "-1": np.where(NUMBERS == 2, -1, NUMBERS),
    "nan": np.where(NUMBERS == 2, np.nan, NUMBERS),
    "0.5": np.where(NUMBERS == 2, 0.5, NUMBERS),
    "4294967297": np.where(NUMBERS == 2, 2**32 + 1, NUMBERS),
    "-0.5": ONE_HOT - 0.5 * (np.arange(C) == 1),
}
WRONG_WEIGHTS = {"-2": -2.0, "nan": np.nan, "inf": np.inf}


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("received", "how"),
    [
        *((received, {}) for received in WRONG_LABELS),
        ("3", {"run_eagerly": False, "jit_compile": False}),
        *(
            pytest.param(
                received,
                {"run_eagerly": False, "jit_compile": True},
                marks=pytest.mark.thorough,
            )
            for received in ("3", "nan")
        ),
    ],
)
def test_wrong_labels_are_refused_in_the_same_words(received, how):
    model = small(OnlineMean, {}, metrics=None, **how)
    images, _ = random_images(len(NUMBERS))
    model.fit(images[:4], NUMBERS[:4], verbose=0)
    before = model.get_weights()
    y = WRONG_LABELS[received]
    message = (
        f"`y` must be integers from 0 to 2, or one-hot.* Received: a label of {received}"
    )
    with pytest.raises(ValueError, match=f"{message} in step 2. The model is as it was"):
        model.fit(images, y, verbose=0)
    for expected, actual in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)
    with pytest.raises(ValueError, match=f"{message}$"):
        model.evaluate(images, y, verbose=0)
    with pytest.raises(ValueError, match=message):
        model.fit(images, NUMBERS, validation_data=(images, y), verbose=0)


@pytest.mark.bad_input
@pytest.mark.parametrize(("cls", "arguments"), rows_of(MOST_STATE, OF_EACH_KIND))
@pytest.mark.parametrize("received", WRONG_WEIGHTS)
def test_wrong_weights_leave_the_state_as_it_was(cls, arguments, received):
    model = small(cls, arguments)
    images, _ = random_images(len(NUMBERS))
    model.fit(images[:4], NUMBERS[:4], verbose=0)
    before = model.get_weights()
    weights = np.where(NUMBERS == 2, WRONG_WEIGHTS[received], 1.0)
    message = r"`sample_weight` must be finite numbers >= 0. Received: a weight of "
    with pytest.raises(ValueError, match=f"{message}{received} in step 2"):
        model.fit(images, NUMBERS, sample_weight=weights, verbose=0)
    for expected, actual in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)
    with pytest.raises(ValueError, match=f"{message}{received}$"):
        model.evaluate(images, NUMBERS, sample_weight=weights, verbose=0)


@pytest.mark.bad_input
def test_names_for_labels():
    model = small_model(OnlineMean(C))
    images, _ = random_images(2)
    message = r"`y` must be .*numpy.unique.*Received: y of dtype <U3"
    with pytest.raises(ValueError, match=message):
        model.fit(images, np.array(["cat", "dog"]), verbose=0)
    with pytest.raises(ValueError, match=message):
        model.evaluate(images, y=np.array(["cat", "dog"]), verbose=0)


def test_the_ignored_class_of_a_keras_loss_is_no_wrong_label():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    y = np.where(NUMBERS == 2, 255, NUMBERS).astype("uint8")
    keras.utils.set_random_seed(0)
    model = small_model(OnlineMean(C), compile=False)
    model.compile("sgd", loss=loss)
    images, _ = random_images(len(NUMBERS))
    assert np.isfinite(model.fit(images, y, verbose=0).history["loss"][0])
    np.testing.assert_array_equal(model.classifier.counts, [3, 2, 0])


@pytest.mark.bad_input
def test_labels_of_an_unknown_number_of_axes():
    images, _ = random_images(4)

    def image_of_unknown_shape(image, label):
        return tf.numpy_function(lambda array: array, [image], tf.float32), label

    def label_of_unknown_shape(image, label):
        return image, tf.numpy_function(lambda array: array, [label], tf.int64)

    dataset = tf.data.Dataset.from_tensor_slices((images, NUMBERS[:4])).batch(2)
    for name, function in (("x", image_of_unknown_shape), ("y", label_of_unknown_shape)):
        message = rf"`{name}` must .*tf.ensure_shape.*Received.* unknown shape"
        with pytest.raises(ValueError, match=message):
            small_model(OnlineMean(C)).fit(dataset.map(function), verbose=0, shuffle=False)


@pytest.mark.bad_input
def test_what_cannot_be_anchored():
    model = small_model(SubCentroids(C, 2))
    images, _ = random_images(len(NUMBERS))
    with pytest.raises(ValueError, match="Received: 3 at 1"):
        model.anchor(images, WRONG_LABELS["3"])
    with pytest.raises(ValueError, match=r"with samples in arrays\. Received: y=None"):
        model.anchor(list(images))
    with pytest.raises(ValueError, match="Received: 8 samples and 7 pictures"):
        model.anchor(images, NUMBERS, images[:7])
    with pytest.raises(ValueError, match=r"at least one sample.*Received: 0 samples"):
        model.anchor(images[:0], NUMBERS[:0])
    dataset = tf.data.Dataset.from_tensor_slices(images).batch(2)
    with pytest.raises(ValueError, match="Received: a dataset without labels"):
        model.anchor(dataset)
    with pytest.raises(ValueError, match="`x` must hold at least one sample"):
        model.anchor(tf.data.Dataset.zip(dataset, dataset).take(0))


def test_images_in_a_list_are_anchored():
    model = small_model(SubCentroids(C, 2))
    images, _ = random_images(len(NUMBERS))
    exemplars = model.anchor(list(images), ONE_HOT.astype(bool))
    assert sorted(exemplars.labels[exemplars.index >= 0]) == [0, 0, 1, 1, 2, 2]
