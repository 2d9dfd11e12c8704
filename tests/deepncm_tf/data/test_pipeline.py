# SPDX-License-Identifier: Apache-2.0
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deepncm_tf.data import augmentation, balanced, pipeline
from deepncm_tf.data.image_sources import ImageFiles, ResizedImages
from deepncm_tf.distribution import strategies

N, BATCH = 21, 8


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(N, 32, 32, 3)).astype("uint8")
    return images, np.arange(N, dtype="int32") % 5


def batches(dataset):
    return [
        (x["image"].numpy(), x["index"].numpy(), labels.numpy()) for x, labels in dataset
    ]


def test_standardize(data):
    images, _ = data
    images[1] = 7  # a constant image has no variance to divide by
    expected = []
    for image in images.astype("float64"):
        deviation = max(image.std(), 1 / np.sqrt(image.size))
        expected.append((image - image.mean()) / deviation)
    np.testing.assert_allclose(pipeline.standardize(images), expected, atol=1e-5)


CROPS = pytest.mark.parametrize(
    ("name", "mode"), [("standard", "constant"), ("reflect", "reflect")]
)


@CROPS
def test_augment_against_a_loop(data, name, mode):
    images, _ = data
    rng = np.random.default_rng(1)
    offsets = rng.integers(9, size=(N, 2)).astype("int32")
    flips = rng.integers(2, size=N).astype(bool)
    offsets[:3] = [[0, 0], [8, 8], [4, 4]]
    augment = augmentation.AUGMENTATIONS[name].augment
    actual = augment(images, offsets, flips).numpy()
    for image, (row, column), flip, result in zip(
        images, offsets, flips, actual, strict=True
    ):
        padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode)
        crop = padded[row : row + 32, column : column + 32]
        np.testing.assert_array_equal(result, crop[:, ::-1] if flip else crop)


def test_mirror_against_a_loop(data):
    images, labels = data
    flips = labels % 2 == 0
    expected = images.copy()
    for row in np.flatnonzero(flips):
        expected[row] = images[row][:, ::-1]
    np.testing.assert_array_equal(augmentation.mirror(images, flips), expected)


def test_plan_covers_all_offsets_and_both_flips():
    order = pipeline.epoch_order(2000, seed=0, epoch=0)
    offsets, flips = augmentation.draw_crops(2000, seed=0, epoch=0, flip=True)
    np.testing.assert_array_equal(np.sort(order), np.arange(2000))
    assert set(offsets.numpy().ravel()) == set(range(9))
    assert 0.45 < np.mean(flips) < 0.55
    _, flips = augmentation.draw_crops(2000, seed=0, epoch=0, flip=False)
    assert not np.any(flips)


def test_an_epoch_has_every_sample_once(data):
    images, labels = data
    found = batches(pipeline.training_dataset(images, labels, BATCH, epochs=2))
    assert [len(index) for _, index, _ in found] == [8, 8, 5] * 2
    for epoch in (found[:3], found[3:]):
        index = np.concatenate([index for _, index, _ in epoch])
        np.testing.assert_array_equal(np.sort(index), np.arange(N))
    for _, index, label in found:
        np.testing.assert_array_equal(label, labels[index])


def test_a_function_of_seed_and_epoch(data):
    whole = batches(pipeline.training_dataset(*data, BATCH, epochs=3, seed=5))
    again = batches(pipeline.training_dataset(*data, BATCH, epochs=3, seed=5))
    resumed = batches(
        pipeline.training_dataset(*data, BATCH, epochs=3, seed=5, initial_epoch=1)
    )
    for one, other in [
        *zip(whole, again, strict=True),
        *zip(whole[3:], resumed, strict=True),
    ]:
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    other_seed = batches(pipeline.training_dataset(*data, BATCH, epochs=1, seed=6))
    orders = [
        np.concatenate([index for _, index, _ in epoch])
        for epoch in (whole[:3], whole[3:6], other_seed)
    ]
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])


def test_augmentation_and_standardization_are_applied(data):
    images, _ = data
    ((image, index, _), *_) = batches(pipeline.training_dataset(*data, BATCH, 1, seed=2))
    order = pipeline.epoch_order(N, 2, 0)
    offsets, flips = augmentation.draw_crops(N, 2, 0, True)
    np.testing.assert_array_equal(index, order[:BATCH])
    expected = augmentation.crop_and_mirror(images[index], offsets[:BATCH], flips[:BATCH])
    np.testing.assert_allclose(image, pipeline.standardize(expected), atol=1e-5)


def test_evaluation_is_in_order_and_not_augmented(data):
    images, _ = data
    found = batches(pipeline.evaluation_dataset(*data, BATCH))
    np.testing.assert_array_equal(np.concatenate([i for _, i, _ in found]), np.full(N, -1))
    np.testing.assert_allclose(
        np.concatenate([image for image, *_ in found]), pipeline.standardize(images)
    )


@pytest.mark.parametrize("n", [16, 17, 21])
@pytest.mark.parametrize("num_replicas", [2, 3])
def test_replicas_share_the_same_global_batches(data, n, num_replicas):
    images, labels = (array[:n] for array in data)
    one = batches(pipeline.training_dataset(images, labels, BATCH, 2))
    strategy = strategies.get_strategy("mirrored", num_replicas)
    with strategy.scope():
        many = list(pipeline.training_dataset(images, labels, BATCH, 2))
    assert len(many) == len(one)
    for (image, index, label), (x, y) in zip(one, many, strict=True):
        for expected, shares in ((image, x["image"]), (index, x["index"]), (label, y)):
            shares = strategy.experimental_local_results(shares)
            assert len(shares) == num_replicas
            np.testing.assert_array_equal(tf.concat(shares, axis=0), expected)


def test_steps_per_epoch():
    assert [pipeline.steps_per_epoch(n, 8) for n in (1, 8, 9, 16)] == [1, 1, 2, 2]


def test_a_source_gives_what_an_array_gives(data, tmp_path):
    """The same batches, in the same order, of pictures on the disk and of an array."""
    images, labels = data
    paths = [tmp_path / f"{number}.png" for number in range(N)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    source = ImageFiles(paths, 32)
    for scaling in pipeline.SCALINGS:
        pairs = zip(
            batches(pipeline.training_dataset(source, labels, BATCH, 2, scaling=scaling)),
            batches(pipeline.training_dataset(images, labels, BATCH, 2, scaling=scaling)),
            strict=True,
        )
        for one, other in pairs:
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(a, b)
        pairs = zip(
            batches(pipeline.evaluation_dataset(source, labels, BATCH, scaling)),
            batches(pipeline.evaluation_dataset(images, labels, BATCH, scaling)),
            strict=True,
        )
        for one, other in pairs:
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(a, b)


def test_pixels_are_left_as_they_are(data):
    images, _ = data
    found = batches(pipeline.evaluation_dataset(*data, BATCH, scaling="pixels"))
    np.testing.assert_array_equal(np.concatenate([image for image, *_ in found]), images)
    assert found[0][0].dtype == "float32"


class CountingSource(ResizedImages):
    """Counts the images that it has made."""

    made = 0

    def read(self, row):
        self.made += 1
        return super().read(row)


def test_few_batches_of_a_source_are_made_ahead(data):
    """However many there are: what is in memory does not grow with the dataset."""
    images, _ = data
    source = CountingSource(np.tile(images, (300, 1, 1, 1)), 32)
    labels = np.zeros(len(source), "int32")
    iterator = iter(pipeline.training_dataset(source, labels, BATCH, epochs=1))
    for _ in range(3):
        next(iterator)
    time.sleep(1)  # for as much as it would make
    assert 3 * BATCH <= source.made < len(source) / 4


@CROPS
@pytest.mark.parametrize(("size", "padding"), [(224, 28), (32, 4), (20, 2), (4, 1)])
def test_larger_images_are_padded_by_more(size, padding, name, mode):
    images = np.random.default_rng(0).integers(256, size=(3, size, size, 3)).astype("uint8")
    offsets, _ = augmentation.draw_crops(500, 0, 0, flip=False, image_size=size)
    assert (offsets.numpy().min(), offsets.numpy().max()) == (0, 2 * padding)
    offsets = np.array([[0, 0], [2 * padding, padding], [padding, 1]], "int32")
    augment = augmentation.AUGMENTATIONS[name].augment
    found = augment(images, offsets, np.zeros(3, bool)).numpy()
    for image, (row, column), result in zip(images, offsets, found, strict=True):
        padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode)
        expected = padded[row : row + size, column : column + size]
        np.testing.assert_array_equal(result, expected)


def test_nothing_is_tuned(data):
    """TensorFlow's tuning can hold up whoever has come to the end of a dataset."""
    datasets = (
        pipeline.training_dataset(*data, BATCH, epochs=1),
        pipeline.evaluation_dataset(*data, BATCH),
        balanced.balanced_dataset(*data, samples_per_class=2),
    )
    for dataset in datasets:
        assert dataset.options().autotune.enabled is False


def test_functions_of_datasets_are_not_rewritten():
    """AutoGraph would delay the start of a run, and has nothing to do."""
    seen = []

    def batch(rows, index=None):
        seen.append(tf.__internal__.autograph.control_status_ctx().status.name)
        return rows

    list(pipeline.ordered_dataset(batch, 4, 2))
    list(pipeline.epochs_dataset(lambda epoch: batch, 4, 2, epochs=1, seed=0))
    assert set(seen) == {"DISABLED"}
