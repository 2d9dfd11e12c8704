# SPDX-License-Identifier: Apache-2.0
"""Batches with as many samples of each class, whatever their numbers in the data.

What comes in which batch is a function of (seed, epoch) alone.
"""

import keras
import numpy as np

from deepncm_tf.utils.arguments import as_positive_integer


def balanced_order(labels, samples_per_class, classes_per_batch=None, seed=0, epoch=0):
    """Rows of the batches of an epoch.

    Classes take turns, in an order of their own for each round; so do the samples of a
    class, of which a rare one gives each several times.

    Args:
        labels: `(n,)` array of integers.
        samples_per_class: Int m >= 1, samples of a class in a batch.
        classes_per_batch: Int, classes in a batch, or None for all of them.
        seed, epoch: Ints >= 0.

    Returns:
        `(steps, classes_per_batch * samples_per_class)` int32, class by class; there are
        as many batches as hold n samples, at least one.

    Raises:
        ValueError: If there are not so many classes.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in "iu":
        raise ValueError(
            "`labels` must be (n,) integers, at least one. Received: labels of shape "
            f"{labels.shape} and dtype {labels.dtype}"
        )
    classes = np.unique(labels)
    size = as_positive_integer("samples_per_class", samples_per_class)
    number = len(classes)
    if classes_per_batch is not None:
        number = as_positive_integer("classes_per_batch", classes_per_batch, "or None")
    if number > len(classes):
        raise ValueError(
            f"`classes_per_batch` must be at most the number of classes, {len(classes)}. "
            f"Received: classes_per_batch={classes_per_batch}"
        )
    rng = np.random.default_rng([seed, epoch])
    rows = {c: _Turns(np.flatnonzero(labels == c), rng) for c in classes}
    turns = _Turns(classes, rng)
    steps = max(len(labels) // (number * size), 1)
    batches = [[rows[c].take(size) for c in turns.take(number)] for _ in range(steps)]
    return np.array(batches, "int32").reshape(steps, number * size)


class _Turns:
    """Draws from values so that each comes once before any comes again.

    Args:
        values: `(n,)` array.
        rng: `numpy.random.Generator`.
    """

    def __init__(self, values, rng):
        self.values = values
        self.rng = rng
        self.left = []

    def take(self, number):
        """Draws values, a list; all different where there are so many."""
        taken = []
        while len(taken) < number:
            if not self.left:
                order = self.rng.permutation(self.values).tolist()
                # Those of this batch come last again.
                order.sort(key=lambda value: value in taken)
                self.left = order
            taken.append(self.left.pop(0))
        return taken


def balanced_dataset(x, y, samples_per_class, classes_per_batch=None, seed=0):
    """Endless balanced batches as a `tf.data.Dataset`; give `fit` `steps_per_epoch`.

    Args:
        x: Array of samples, or a dictionary of such.
        y: `(n,)` array of integers.
        samples_per_class, classes_per_batch, seed: As in `balanced_order`.

    Returns:
        Dataset of `({"image", "index"}, label)`, or with the names in `x`; `index` is the
        sample's row in `x`.
    """
    import tensorflow as tf

    from deepncm_tf.data import pipeline

    labels = np.asarray(y)
    order = balanced_order(labels, samples_per_class, classes_per_batch, seed)

    def rows(epoch):
        return balanced_order(labels, samples_per_class, classes_per_batch, seed, epoch)

    def batches(epoch):
        found = tf.numpy_function(rows, [epoch], tf.int32, stateful=False)
        return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(found, order.shape))

    arrays = keras.tree.map_structure(tf.constant, _named(x))
    classes = tf.constant(labels)

    def samples(index):
        taken = keras.tree.map_structure(lambda array: tf.gather(array, index), arrays)
        return {**taken, "index": index}, tf.gather(classes, index)

    epochs = tf.data.Dataset.counter(dtype=tf.int64).flat_map(pipeline.as_written(batches))
    dataset = epochs.map(
        pipeline.as_written(samples), num_parallel_calls=pipeline.PARALLEL_CALLS
    )
    return pipeline.without_tuning(dataset.prefetch(pipeline.AHEAD))


class BalancedBatches(keras.utils.PyDataset):
    """Balanced batches for `fit` on any backend.

    Args:
        x: Array of samples, or a dictionary of such.
        y: `(n,)` array of integers.
        samples_per_class, classes_per_batch, seed: As in `balanced_order`.
        **kwargs: Those of `keras.utils.PyDataset`.
    """

    def __init__(self, x, y, samples_per_class, classes_per_batch=None, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.x, self.y = _named(x), np.asarray(y)
        self.arguments = samples_per_class, classes_per_batch, seed
        self.epoch = 0
        self.order = balanced_order(self.y, *self.arguments)

    def __len__(self):
        return len(self.order)

    def __getitem__(self, number):
        rows = self.order[number]
        taken = {name: array[rows] for name, array in self.x.items()}
        return {**taken, "index": rows}, self.y[rows]

    def on_epoch_end(self):
        self.epoch += 1
        self.order = balanced_order(self.y, *self.arguments, self.epoch)


def _named(x):
    return x if isinstance(x, dict) else {"image": np.asarray(x)}
