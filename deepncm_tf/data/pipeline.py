# SPDX-License-Identifier: Apache-2.0
"""Batches for training and evaluation, as `tf.data` pipelines over arrays in memory, or
over sources of images that are made when they are asked for.

What a training sample looks like, and where it comes in the epoch, is a function of
(seed, epoch, position) alone: runs can be repeated, resumed at any epoch, and spread over
replicas, each of which gets its slice of the same global batch.
"""

import tensorflow as tf

from deepncm_tf.data.augmentation import AUGMENTATIONS
from deepncm_tf.data.image_sources import ImageSource, ResizedImages
from deepncm_tf.distribution import replicas

# Batches, which bound the memory: made at once, and made ahead.
PARALLEL_CALLS, AHEAD = 4, 2

# Functions of datasets are TensorFlow's as they stand: rewriting them delays the start.
as_written = tf.autograph.experimental.do_not_convert


def steps_per_epoch(num_samples, batch_size):
    """Number of batches, the last of which may be partial."""
    return -(-num_samples // batch_size)


def standardize(images):
    """Scales each image to mean 0 and variance 1, as the published recipe does.

    Args:
        images: `(batch, height, width, channels)`, of any numeric dtype.

    Returns:
        float32 images of the same shape.
    """
    return tf.image.per_image_standardization(tf.cast(images, tf.float32))


def as_pixels(images):
    """Leaves the values 0..255, for networks that scale them themselves.

    Args:
        images: `(batch, height, width, channels)`, of any numeric dtype.

    Returns:
        float32 images of the same shape.
    """
    return tf.cast(images, tf.float32)


# What becomes of images before the network, by what it takes.
SCALINGS = {"standardized": standardize, "pixels": as_pixels}


def epoch_order(num_samples, seed, epoch):
    """Order of the samples in an epoch.

    Args:
        num_samples: Int.
        seed: Int.
        epoch: Int or scalar int tensor, counted from 0.

    Returns:
        Permutation of the samples, int32 `(n,)`.
    """
    seeds = tf.random.split([seed, tf.cast(epoch, tf.int32)], num=3)
    return tf.random.experimental.stateless_shuffle(tf.range(num_samples), seed=seeds[0])


def training_dataset(
    images,
    labels,
    batch_size,
    epochs,
    seed=0,
    initial_epoch=0,
    initial_batch=0,
    flip=True,
    augmentation="standard",
    scaling="standardized",
    on_device=False,
):
    """Shuffled, augmented and scaled batches of all epochs, one after the other.

    Args:
        images: uint8 `(n, height, width, channels)`, an array or an `ImageSource`, of
            which no more than some batches are in memory.
        labels: int32 `(n,)`.
        batch_size: Int, size of the global batch.
        epochs: Int, the epoch before which to end.
        seed: Int, of order and augmentation.
        initial_epoch: Int, the epoch to begin with, counted from 0.
        initial_batch: Int, the batch of that epoch to begin with, counted from 0.
        flip: Bool, whether images may be mirrored.
        augmentation: `"standard"`, crops of images padded with black; `"reflect"`, padded
            with their own mirror image; `"snca"`, see `colour_augmentation.augment`; or
            `"imagenet"`, see `distorted_crops.draw_box`.
        scaling: `"standardized"`, see `standardize`; or `"pixels"` for values 0..255.
        on_device: Bool, whether `DeviceImages` makes the images: a batch then has under
            `"image"` what was drawn for it.

    Returns:
        Dataset of `({"image", "index"}, label)`; `index` is the sample's row in `images`.
        Give `steps_per_epoch` to `fit`. Under a strategy, call it within its scope.
    """
    labels, chosen = tf.constant(labels), AUGMENTATIONS[augmentation]
    num_samples = labels.shape[0]
    if chosen.crops_files and not isinstance(images, ImageSource):
        images = ResizedImages(images, images.shape[1])
    gather = None if on_device else gatherer(images)
    num_keys = int(chosen.crops_files)
    scale = SCALINGS[scaling]

    def batches(epoch):
        draws = chosen.draw(num_samples, seed, epoch, flip, images.shape[1])

        def batch(rows, index):
            image = tuple(tf.gather(drawn, rows) for drawn in draws)
            if not on_device:
                pixels = gather(index, *image[:num_keys])
                image = scale(chosen.augment(pixels, *image[num_keys:]))
            return {"image": image, "index": index}, tf.gather(labels, index)

        return batch

    place = (initial_epoch, initial_batch)
    return epochs_dataset(batches, num_samples, batch_size, epochs, seed, *place)


def epochs_dataset(
    batches, num_samples, batch_size, epochs, seed, initial_epoch=0, initial_batch=0
):
    """Shuffled batches of all epochs, one after the other.

    Args:
        batches: Function from an epoch to a function of two int32 tensors `(batch,)`, the
            places of samples in the epoch and their rows in the data, to a batch.
        num_samples: Int.
        batch_size, epochs, seed, initial_epoch, initial_batch: As in `training_dataset`.
    """

    def epoch_dataset(epoch, shares):
        order = epoch_order(num_samples, seed, epoch)
        make_batch = batches(epoch)

        def batch(rows):
            return make_batch(rows, tf.gather(order, rows))

        first = tf.where(epoch == initial_epoch, initial_batch, 0)
        return _slices(num_samples, batch_size, shares, first).map(
            as_written(batch), num_parallel_calls=PARALLEL_CALLS * len(shares)
        )

    def build(shares):
        epoch_numbers = tf.data.Dataset.range(initial_epoch, epochs)
        return epoch_numbers.flat_map(
            as_written(lambda epoch: epoch_dataset(epoch, shares))
        )

    return _distribute(build)


def evaluation_dataset(images, labels, batch_size, scaling="standardized", with_rows=False):
    """Scaled batches in order, once.

    Args:
        images, labels, batch_size, scaling: As in `training_dataset`.
        with_rows: Bool, whether these are training images.

    Returns:
        Dataset of `({"image", "index"}, label)`; the index is -1, as none of the images has
        a row in a bank of training images, or with `with_rows` that row. Give `steps` to
        `evaluate` where there are replicas: Keras would count the slices of a batch as
        batches.
    """
    gather, labels = gatherer(images), tf.constant(labels)
    scale = SCALINGS[scaling]

    def batch(rows):
        image = scale(gather(rows))
        index = rows if with_rows else -tf.ones_like(rows)
        return {"image": image, "index": index}, tf.gather(labels, rows)

    return ordered_dataset(batch, labels.shape[0], batch_size)


def ordered_dataset(batch, num_samples, batch_size):
    """Batches in order, once.

    Args:
        batch: Function from int32 rows `(batch,)` to a batch.
        num_samples, batch_size: Ints.
    """

    def build(shares):
        return _slices(num_samples, batch_size, shares).map(
            as_written(batch), num_parallel_calls=PARALLEL_CALLS * len(shares)
        )

    return _distribute(build)


def gatherer(images):
    """Function from int32 rows, and keys of crops, to their images or masks, in a graph.

    Args:
        images: uint8 array or `ImageSource`.
    """
    if not isinstance(images, ImageSource):
        images = tf.constant(images)
        return lambda rows: tf.gather(images, rows)

    def gather(*rows_and_keys):
        get = images.crops if len(rows_and_keys) > 1 else images.__getitem__
        found = tf.numpy_function(get, rows_and_keys, tf.uint8, stateful=False)
        return tf.ensure_shape(found, (None, *images.shape[1:]))

    return gather


def without_tuning(dataset):
    """A dataset that TensorFlow does not tune.

    Its tuning may not see that its iterator has gone, and sleeps on, in TensorFlow 2.21 as
    long again as the iterator has lived; whoever iterated waits for it.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def _slices(num_samples, batch_size, shares, first=0):
    """Dataset of int32 row numbers: replica by replica, the slices of each batch.

    Args:
        num_samples, batch_size: Ints.
        shares: Range of the replicas whose slices are wanted.
        first: Int, the batch to begin with.
    """
    num_replicas = replicas.num_replicas()

    def rows(position):
        position = tf.cast(position, tf.int32)
        step = position // len(shares)
        replica = shares.start + position % len(shares)
        start = step * batch_size
        size = tf.minimum(batch_size, num_samples - start)
        # Shares differ by one sample at most; in a small last batch they may be empty.
        return start + tf.range(
            replica * size // num_replicas, (replica + 1) * size // num_replicas
        )

    steps = steps_per_epoch(num_samples, batch_size)
    first = tf.cast(first, tf.int64) * len(shares)
    return tf.data.Dataset.range(first, steps * len(shares)).map(as_written(rows))


def _distribute(build):
    """A dataset made of the slices of all replicas, or of those of this worker."""
    if replicas.num_replicas() == 1:
        return without_tuning(build(range(1)).prefetch(AHEAD))

    def worker_dataset(context):
        count = context.num_replicas_in_sync // context.num_input_pipelines
        first = context.input_pipeline_id * count
        slices = build(range(first, first + count)).prefetch(AHEAD * count)
        return without_tuning(slices)

    return tf.distribute.get_strategy().distribute_datasets_from_function(worker_dataset)
