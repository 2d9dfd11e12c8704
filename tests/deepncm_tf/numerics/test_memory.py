# SPDX-License-Identifier: Apache-2.0
"""The memory against a list per class."""

import keras
import numpy as np
import pytest
from helpers import to_numpy

from deepncm_tf.numerics.memory import FeatureMemory, ranks_in_class

C, D = 3, 2


def memory_of(size, dtype="float32"):
    def add_state(name, shape, dtype=None, initializer="zeros"):
        return keras.Variable(initializer=initializer, shape=shape, dtype=dtype, name=name)

    return FeatureMemory(add_state, C, size, D, dtype)


def batches(number, largest=9):
    rng = np.random.default_rng(0)
    for _ in range(number):
        n = int(rng.integers(1, largest))
        yield (
            rng.normal(size=(n, D)).astype("float32"),
            rng.integers(C, size=n).astype("int32"),
            rng.random(n) < 0.5,
            rng.random(n) < 0.8,
        )


@pytest.mark.parametrize("size", [1, 4])
def test_the_last_samples_of_each_class_are_there(size):
    memory, kept = memory_of(size), [[] for _ in range(C)]
    for features, labels, flags, keep in batches(30):
        memory.write(
            *(keras.ops.convert_to_tensor(a) for a in (features, labels, flags, keep))
        )
        for x, label, flag, is_kept in zip(features, labels, flags, keep, strict=True):
            if is_kept:
                kept[label] = [*kept[label], (*x.tolist(), float(flag))][-size:]
        features, counted, there = map(to_numpy, memory.read("float32"))
        for c in range(C):
            found = np.concatenate([features[c], counted[c][:, None]], axis=1)[there[c] > 0]
            assert sorted(map(tuple, found.tolist())) == sorted(kept[c])
    assert all(len(samples) == size for samples in kept)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of tf.function")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_what_was_read_outlives_a_write(jit_compile):
    import tensorflow as tf

    memory = memory_of(2)

    @tf.function(jit_compile=jit_compile)
    def write_between_two_reads(features, labels, flags, keep):
        before = memory.read("float32")
        memory.write(features, labels, flags, keep)
        return before, memory.read("float32")

    previous, reads = memory.read("float32"), []
    for batch in batches(4, largest=5):
        before, after = write_between_two_reads(*map(tf.constant, batch))
        # What an earlier step returned is still what it was.
        reads.append((after, [to_numpy(value).copy() for value in after]))
        for one, other in zip(before, previous, strict=True):
            np.testing.assert_array_equal(one, other)
        previous = after
    for values, copies in reads:
        for value, copy in zip(values, copies, strict=True):
            np.testing.assert_array_equal(value, copy)
    assert np.any(reads[0][1][0] != reads[-1][1][0])


def test_bfloat16_rounds_what_is_kept():
    memory = memory_of(2, "bfloat16")
    x = np.array([[1.0001, 3.14159]], "float32")
    memory.write(x, np.array([1], "int32"), np.array([True]), np.array([True]))
    features, _, there = map(to_numpy, memory.read("float32"))
    np.testing.assert_allclose(features[1][there[1] > 0], [[1.0, 3.140625]])


def test_ranks_count_the_samples_of_each_class():
    for _, labels, keep, _ in batches(20):
        ranks, numbers = ranks_in_class(
            keras.ops.convert_to_tensor(labels), keras.ops.convert_to_tensor(keep), C
        )
        seen = [0] * C
        for label, is_kept, rank in zip(labels, keep, to_numpy(ranks), strict=True):
            if is_kept:
                assert rank == seen[label]
                seen[label] += 1
        assert to_numpy(numbers).tolist() == seen


def test_ranks_where_classes_times_samples_exceed_an_integer():
    n, num_classes = 2**12, 2**20
    classes = (1, num_classes // 2, num_classes - 1)
    labels = np.random.default_rng(1).choice(classes, size=n)
    ranks, numbers = ranks_in_class(
        keras.ops.convert_to_tensor(labels.astype("int32")),
        keras.ops.ones((n,), "bool"),
        num_classes,
    )
    for c in classes:
        mine = to_numpy(ranks)[labels == c]
        np.testing.assert_array_equal(mine, np.arange(len(mine)))
        assert to_numpy(numbers)[c] == len(mine)
