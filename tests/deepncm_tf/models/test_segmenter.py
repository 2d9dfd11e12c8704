# SPDX-License-Identifier: Apache-2.0
"""A class for each pixel: loss and state against plain NumPy, saving, bad input."""

import keras
import numpy as np
import pytest
from methods import others_are_thorough
from small_segmenters import SHAPE, C, images_and_masks, maps, segmenter

from deepncm_tf.classifiers import (
    DecayMean,
    NeighborhoodComponents,
    OnlineMean,
    Softmax,
    SubCentroids,
)
from deepncm_tf.models import decoders
from deepncm_tf.models.losses import LogitCrossEntropy
from deepncm_tf.models.pixel_metrics import PixelAccuracy, class_ious
from deepncm_tf.models.segmenter import Segmenter


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


@pytest.fixture(scope="module")
def data():
    images, masks = images_and_masks(5)
    return images.astype("float32"), masks


@pytest.mark.parametrize("auxiliary_weight", [0.0, 0.4])
def test_the_loss_is_the_mean_over_pixels_that_are_not_void(data, auxiliary_weight):
    model = segmenter(Softmax(C), auxiliary_weight=auxiliary_weight, dropout=0.0)
    images, masks = data
    figures = model.evaluate(images, masks, batch_size=5, verbose=0, return_dict=True)
    logits = model.predict(images, verbose=0).astype("float64")
    known = masks != 255
    losses = -log_softmax(logits)[known, masks[known]]
    np.testing.assert_allclose(figures["loss"], losses.mean(), rtol=1e-5)
    right = logits.argmax(axis=-1) == masks
    np.testing.assert_allclose(figures["accuracy"], right[known].mean(), rtol=1e-6)
    confusion = np.zeros((C, C))
    np.add.at(confusion, (masks[known], logits.argmax(axis=-1)[known]), 1)
    ious = [
        confusion[c, c] / (confusion[c].sum() + confusion[:, c].sum() - confusion[c, c])
        for c in range(C)
    ]
    np.testing.assert_allclose(class_ious(confusion), ious)
    np.testing.assert_allclose(figures["mean_iou"], np.mean(ious), rtol=1e-5)


def test_void_pixels_are_in_no_metric(data):
    images, masks = data
    model = segmenter(Softmax(C), compile=False)
    mean_iou = keras.metrics.MeanIoU(C, sparse_y_pred=False)
    model.compile("sgd", metrics=["accuracy", mean_iou])
    right = model.predict(images, verbose=0).argmax(axis=-1)
    seen = masks != 255
    figures = model.evaluate(images, np.where(seen, right, 255), verbose=0)
    np.testing.assert_allclose(figures[1:], 1.0, rtol=1e-6)
    figures = model.evaluate(images, masks, verbose=0)
    np.testing.assert_allclose(figures[1], np.mean((right == masks)[seen]), rtol=1e-6)


def test_the_other_head_adds_its_loss_in_training(data):
    images, masks = data
    losses = []
    for weight in (0.0, 0.4):
        keras.utils.set_random_seed(1)
        model = segmenter(Softmax(C), auxiliary_weight=weight, dropout=0.0)
        figures = model.train_on_batch(images, masks, return_dict=True)
        losses.append(figures["loss"])
    keras.utils.set_random_seed(1)
    model = segmenter(Softmax(C), auxiliary_weight=0.4, dropout=0.0)
    logits = model.enlarged(model.auxiliary_head(model.backbone(images)[0], training=True))
    known = masks != 255
    own = -log_softmax(np.asarray(logits, "float64"))[known, masks[known]].mean()
    np.testing.assert_allclose(losses[1] - losses[0], 0.4 * own, rtol=1e-4)


def test_only_right_pixels_move_the_sub_centroids(data):
    images, masks = data
    classifier = SubCentroids(C, 1, momentum=0.9, feature_norm=None, logit_norm=0.1)
    model = segmenter(classifier)
    features = model.embed(images, verbose=0).reshape(-1, 5).astype("float64")
    labels = masks[:, 2::4, 2::4].reshape(-1)  # at the centres of parts of 4 x 4
    old = unit(np.asarray(classifier.sub_centroids, "float64"))[:, 0]
    predicted = (unit(features) @ old.T).argmax(axis=1)
    expected = old.copy()
    for c in range(C):
        chosen = unit(features)[(labels == c) & (predicted == c)]
        if len(chosen):
            expected[c] = unit(0.9 * old[c] + 0.1 * unit(chosen.sum(axis=0)))
    assert not np.allclose(expected, old, atol=1e-3)
    model.train_on_batch(images, masks)
    np.testing.assert_allclose(
        np.asarray(classifier.sub_centroids)[:, 0], expected, atol=1e-5
    )
    counts = [np.sum(labels == c) for c in range(C)]
    np.testing.assert_array_equal(classifier.count, counts)


def test_a_batch_that_is_void_all_over_changes_no_class(data):
    images, masks = data
    model = segmenter(OnlineMean(C))
    before = model.get_weights()
    figures = model.train_on_batch(images, np.full_like(masks, 255), return_dict=True)
    assert figures["loss"] == 0
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_class_that_is_ignored_is_as_void(data):
    images, masks = data
    results = []
    for void, other in ((0, 255), (255, 0)):
        keras.utils.set_random_seed(3)
        weights = {"contrast_weight": 0.1, "distance_weight": 0.1}
        model = segmenter(SubCentroids(C, 2), ignore_class=void, **weights)
        logs = model.train_on_batch(
            images, np.where(masks == other, void, masks), return_dict=True
        )
        results.append((logs["loss"], model.get_weights()))
    assert float(model.classifier.count[0]) == 0
    keras.tree.map_structure(np.testing.assert_array_equal, *results)


@pytest.mark.parametrize("axes", [1, 2])
def test_weights_of_images_and_of_rows_are_those_of_their_pixels(data, axes):
    images, masks = data
    weights = np.random.default_rng(0).uniform(size=masks.shape[:axes]).astype("float32")
    same = np.broadcast_to(weights.reshape(*weights.shape, *[1] * (3 - axes)), masks.shape)
    results = []
    for given in (weights, same):
        keras.utils.set_random_seed(3)
        model = segmenter(OnlineMean(C), auxiliary_weight=0.4)
        logs = model.train_on_batch(images, masks, sample_weight=given, return_dict=True)
        results.append((logs["loss"], model.get_weights()))
    for one, other in zip(*map(keras.tree.flatten, results), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("classifier", [DecayMean(C), SubCentroids(C, 2)])
def test_parts_of_a_batch_are_as_the_whole(data, classifier):
    weights = []
    for parts in (1, 2):
        keras.utils.set_random_seed(2)
        own = type(classifier).from_config(classifier.get_config())
        model = segmenter(own, accumulate_steps=parts)
        model.fit(*data, batch_size=5, epochs=2, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", others_are_thorough(decoders.DECODERS, ["upernet"]))
def test_saved_and_exported(tmp_path, data, name):
    import tensorflow as tf

    images, _ = data
    model = Segmenter(
        maps(), SubCentroids(C, 2), name, 6, auxiliary_weight=0.4, class_names=list("abc")
    )
    logits = model.predict(images, verbose=0)
    assert logits.shape == (5, *SHAPE[:2], C)
    assert model.embed(images, verbose=0).shape[3] == 6
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), logits)
    assert loaded.class_names == ["a", "b", "c"]
    if name == "fcn":
        model.export(tmp_path / "served", verbose=False)
        served = tf.saved_model.load(tmp_path / "served")
        np.testing.assert_allclose(served.serve(images), logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(served.segment(images), logits.argmax(axis=-1))


def test_a_decoder_of_ones_own_is_saved(tmp_path, data):
    model = segmenter(Softmax(C), compile=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(data[0], verbose=0), model.predict(data[0], verbose=0)
    )


@pytest.mark.bad_input
def test_bad_arguments():
    with pytest.raises(ValueError, match="`backbone` must be a functional"):
        Segmenter(keras.layers.Dense(3), Softmax(C))
    with pytest.raises(ValueError, match="without a bank of samples"):
        Segmenter(maps(), NeighborhoodComponents(C, bank_size=5))
    with pytest.raises(ValueError, match="must be 0 for other classifiers"):
        Segmenter(maps(), Softmax(C), contrast_weight=0.1)
    with pytest.raises(ValueError, match="`auxiliary_weight` must be a number >= 0"):
        Segmenter(maps(), Softmax(C), auxiliary_weight=-1)
    with pytest.raises(ValueError, match="`name` must be one of"):
        Segmenter(maps(), Softmax(C), decoder="unet")
    for part in (
        lambda: Segmenter(maps(), Softmax(C), ignore_class="sky"),
        lambda: PixelAccuracy(ignore_class="sky"),
        lambda: LogitCrossEntropy(ignore_class="sky"),
    ):
        with pytest.raises(ValueError, match=r"`ignore_class` must be .*='sky'"):
            part()
    fine, coarse = keras.Input((6, 8, 4)), keras.Input((3, 4, 6))
    same = keras.Model([fine, coarse], [fine, coarse])
    with pytest.raises(ValueError, match="`decoder` must give one tensor of features"):
        Segmenter(maps(), Softmax(C), decoder=same)


@pytest.mark.bad_input
def test_bad_masks(data):
    images, masks = data
    model = segmenter(Softmax(C))
    with pytest.raises(ValueError, match=r"`y` must be masks .* \(batch, 12, 16\)"):
        model.fit(images, masks[:, :6], verbose=0)
    for method in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match="`y`, the labels, must be given"):
            method(images, verbose=0)
    model = segmenter(Softmax(C))
    wrong = masks.copy()
    wrong[0, 0, 0] = C
    with pytest.raises(ValueError, match="Received: a label of 3 in step 1"):
        model.fit(images, wrong, batch_size=5, verbose=0)
    with pytest.raises(ValueError, match=r"`x` must be of shape \(batch, 12, 16, 3\)"):
        model.predict(images[:, :6], verbose=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with pytest.raises(ValueError, match=r"`loss` must have .*ignore_class=255.*=None"):
        model.compile("sgd", loss)
