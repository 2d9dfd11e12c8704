# SPDX-License-Identifier: Apache-2.0
"""Fashion-MNIST in the form of its original files; their contents are generated."""

import gzip
import struct

import numpy as np
import pytest

from deepncm_tf.data import datasets, fashion_mnist

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(256, size=(15, 28, 28)).astype("uint8")
LABELS = RNG.integers(10, size=15).astype("uint8")


def write_idx(path, array, rank=None):
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    header = bytes([0, 0, 8, rank or array.ndim]) + shape
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def folder(tmp_path):
    for prefix, part in (("train", slice(10)), ("t10k", slice(10, None))):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", IMAGES[part])
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", LABELS[part])
    return tmp_path


def test_images_in_the_middle_of_black_ones(folder):
    splits = datasets.load("fashion_mnist", data_dir=str(folder))
    for split, part in (("train", slice(10)), ("test", slice(10, None))):
        images, labels = splits[split]
        assert (images.dtype, labels.dtype) == ("uint8", "int32")
        np.testing.assert_array_equal(labels, LABELS[part])
        np.testing.assert_array_equal(images[:, 2:30, 2:30, 1], IMAGES[part])
        assert images.shape[1:] == (32, 32, 3)
        assert images.sum() == 3 * IMAGES[part].sum(dtype=int)
    assert len(datasets.class_names("fashion_mnist")) == 10


def test_through_tfds_where_the_files_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "FOLDER", tmp_path)
    arrays = {"train": (IMAGES[..., None], LABELS), "test": (IMAGES[..., None], LABELS)}
    monkeypatch.setattr(datasets, "_load_tfds", lambda *args: arrays)
    images, labels = datasets.load("fashion_mnist")["test"]
    np.testing.assert_array_equal(images[:, 2:30, 2:30, 0], IMAGES)
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.data
def test_the_dataset_itself():
    if not fashion_mnist.is_in(fashion_mnist.FOLDER):
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    splits = datasets.load("fashion_mnist")
    for split, size in (("train", 60_000), ("test", 10_000)):
        images, labels = splits[split]
        assert images.shape == (size, 32, 32, 3)
        assert np.bincount(labels).tolist() == [size // 10] * 10


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("header", "shape", "values", "message"),
    [
        ((0, 0, 8, 1), (0,), b"", "must be an IDX file of rank 3"),
        ((0, 0, 9, 3), (1, 1, 1), b"x", "must be an IDX file of rank 3"),
        ((0, 0, 8, 3), (1,), b"", "must be an IDX file of rank 3"),
        ((0, 0, 8, 3), (2**32 - 1,) * 3, b"", f"must have {(2**32 - 1) ** 3} values"),
        ((0, 0, 8, 3), (1, 1, 1), b"", "must have 1 values"),
        ((0, 0, 8, 3), (1, 1, 1), b"xx", "must have 1 values"),
    ],
)
def test_damaged_files(folder, header, shape, values, message):
    path = folder / "t10k-images-idx3-ubyte.gz"
    data = bytes(header) + struct.pack(f">{len(shape)}I", *shape) + values
    path.write_bytes(gzip.compress(data))
    with pytest.raises(ValueError, match=f"{path} {message}"):
        datasets.load("fashion_mnist", data_dir=str(folder))


@pytest.mark.bad_input
def test_files_that_are_cut(folder):
    path = folder / "t10k-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for data in (b"", b"no gzip", whole[:5], whole[:200], whole[:-1]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=f"{path} must "):
            datasets.load("fashion_mnist", data_dir=str(folder))


@pytest.mark.bad_input
def test_images_without_labels(folder):
    write_idx(folder / "train-labels-idx1-ubyte.gz", LABELS)
    with pytest.raises(ValueError, match="Received: 10 images and 15 labels"):
        datasets.load("fashion_mnist", data_dir=str(folder))
