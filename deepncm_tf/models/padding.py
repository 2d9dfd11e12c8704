# SPDX-License-Identifier: Apache-2.0
"""What a backbone sees in the place of batches that are empty, or smaller than others.

A replica may get an empty batch as its share, which a backbone must never see.

Kernels for convolution and pooling fail on one, give it the shape of their input, or give
gradients of what was in memory before; oneDNN's end the process. An image of zeros goes
through in its place and is dropped. Batch normalization alone must not see it.
"""

import functools
import threading

import keras
from keras import ops

from deepncm_tf.distribution import replicas
from official_resnet import BatchNormalization

_share = threading.local()  # each replica is traced in its own thread


def features_of(backbone, x, training):
    """What a backbone gives for a batch, also for an empty one.

    Args:
        backbone: `keras.Model` or layer, as `hide_padding` left it, or a function of one.
        x: Structure of tensors `(batch, ...)`.
        training: Bool.

    Returns:
        Features, `(batch, ..., d)`, or a list of them.
    """
    count = ops.shape(keras.tree.flatten(x)[0])[0]
    known = count is None or isinstance(count, int)
    if count != 0 if known else replicas.num_replicas() == 1:
        return backbone(x, training=training)
    padded = keras.tree.map_structure(lambda part: _filled(part, 1), x)
    _share.count = count
    try:
        features = backbone(padded, training=training)
    finally:
        _share.count = None
    return keras.tree.map_structure(lambda tensor: tensor[:count], features)


def of_several(extract, least):
    """Lets a function of samples see batches of several alone.

    Kernels sum in another order in a batch of a single sample, which changes the last
    digits of its features.

    Args:
        extract: Function from a structure of tensors `(batch, ...)` to a tensor of as many
            rows, each of its own sample.
        least: Int, of samples in a batch; smaller ones are filled with zeros, whose rows
            are dropped.

    Returns:
        Function like `extract`.
    """

    def of_filled(x):
        parts = keras.tree.flatten(x)
        if any(hasattr(part, "row_splits") for part in parts):  # ragged: nothing to fill
            return extract(x)
        count = ops.shape(parts[0])[0]
        filled = keras.tree.map_structure(lambda part: _filled(part, least), x)
        return extract(filled)[:count]

    return of_filled


def _filled(x, least):
    count, *shape = ops.shape(x)
    if isinstance(count, int) and count >= least:
        return x
    padding = ops.zeros((least, *shape), dtype=x.dtype)[count:]
    return ops.concatenate([x, padding])


def hide_padding(backbone):
    """Lets batch normalization in a backbone see only the samples of a batch.

    Keras's own counts only where its statistics are those of all replicas: without a
    sample of its own it would not be finite.
    """
    for layer in backbone._flatten_layers():
        counts_samples = isinstance(layer, BatchNormalization) or (
            isinstance(layer, keras.layers.BatchNormalization) and layer.synchronized
        )
        is_new = not getattr(layer.call, "hides_padding", False)  # of an earlier model
        if counts_samples and is_new:
            layer.call = _of_samples(layer.call)


def _of_samples(call):
    @functools.wraps(call)
    def of_samples(inputs, *args, **kwargs):
        count = getattr(_share, "count", None)
        if count is None:
            return call(inputs, *args, **kwargs)
        outputs = call(inputs[:count], *args, **kwargs)
        padding = ops.zeros_like(inputs[count:], dtype=outputs.dtype)
        return ops.concatenate([outputs, padding])

    of_samples.hides_padding = True
    return of_samples
