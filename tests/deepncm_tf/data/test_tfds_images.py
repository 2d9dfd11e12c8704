# SPDX-License-Identifier: Apache-2.0
"""Datasets of TFDS, read image by image; generated ones, in TFDS's own files."""

import os

import numpy as np
import pytest
import tensorflow_datasets as tfds
from small_runs import config, use_small_network

from deepncm_tf import flags
from deepncm_tf.data import datasets, tfds_images
from deepncm_tf.runs import images as images_of_run
from deepncm_tf.runs import training, unknown_images
from deepncm_tf.runs.finished_run import FinishedRun
from deepncm_tf.utils.errors import DatasetNotFoundError

SIZES = {"train": 23, "test": 7}


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(30, 28, 28, 1)).astype("uint8")


@pytest.fixture
def data_dir(images, tmp_path, monkeypatch):
    """MNIST in its form, not in its contents."""
    builder = tfds.builder("mnist", data_dir=tmp_path)

    def examples(rows):
        for row in rows:
            yield row, {"image": images[row], "label": row % 10}

    splits = {"train": examples(range(23)), "test": examples(range(23, 30))}
    monkeypatch.setattr(type(builder), "_split_generators", lambda *args: splits)
    builder.download_and_prepare()
    return str(tmp_path)


@pytest.fixture
def write_own(images, tmp_path):
    """Writes a dataset that TFDS knows from its files alone, of labels in each split."""

    class Own(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        labels = None

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(28, 28, 1)),
                "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, manager):
            return {s: self._generate_examples(y) for s, y in self.labels.items()}

        def _generate_examples(self, labels):
            for row, label in enumerate(labels):
                yield row, {"image": images[row], "label": label}

    def write(**labels):
        builder = Own(data_dir=tmp_path)
        builder.labels = labels
        builder.download_and_prepare()
        return str(tmp_path)

    return write


def test_images_and_labels_belong_together(images, data_dir):
    splits = datasets.load("tfds:mnist", data_dir=data_dir, image_size=28)
    for (split, size), rows in zip(
        SIZES.items(), (np.arange(23), np.arange(23, 30)), strict=True
    ):
        found, labels = splits[split]
        assert found.shape == (size, 28, 28, 3)
        assert labels.dtype == "int32"
        pairs = {
            (image.tobytes(), int(y)) for image, y in zip(found[:], labels, strict=True)
        }
        gray = np.repeat(images[rows], 3, axis=-1)
        assert pairs == {(i.tobytes(), row % 10) for i, row in zip(gray, rows, strict=True)}


def test_they_are_resized_held_out_and_the_same_each_time(data_dir):
    splits = datasets.load("tfds:mnist", "fine", 0.5, data_dir, image_size=40)
    assert {name: len(labels) for name, (_, labels) in splits.items()} == {
        "train": 11,
        "val": 12,
        "test": 7,
    }
    again = datasets.load("tfds:mnist", "fine", 0.5, data_dir, image_size=40)
    for name, (found, labels) in splits.items():
        assert found[:].shape == (len(labels), 40, 40, 3)
        np.testing.assert_array_equal(again[name][0][:], found[:])


def test_only_test_images(data_dir):
    found, labels = datasets.load_test("tfds:mnist", data_dir=data_dir)
    expected, expected_labels = datasets.load("tfds:mnist", data_dir=data_dir)["test"]
    np.testing.assert_array_equal(found[:], expected[:])
    np.testing.assert_array_equal(labels, expected_labels)


def test_classes():
    assert datasets.class_names("tfds:mnist") == [str(digit) for digit in range(10)]
    assert datasets.num_classes("tfds:mnist") == 10


@pytest.mark.parametrize("load", [datasets.load, datasets.load_test])
def test_a_test_split_without_labels_is_passed_over(write_own, load):
    data_dir = write_own(train=[0, 1, 2], test=[-1] * 5, validation=[2, 1])
    found = load("tfds:own", data_dir=data_dir)
    images, labels = found["test"] if load is datasets.load else found
    assert (len(images), sorted(labels)) == (2, [1, 2])


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"train": [0, 1, -1, -1], "test": [0]}, "split train .*Received: 2 of 4 without"),
        ({"train": [0, 1], "test": [-1, -1]}, "validation, with labels. Received: "),
    ],
)
def test_missing_labels(write_own, labels, message):
    data_dir = write_own(**labels)
    with pytest.raises((ValueError, DatasetNotFoundError), match=message):
        datasets.load("tfds:own", data_dir=data_dir)


def test_a_run_on_a_dataset_that_is_in_a_folder_alone(write_own, tmp_path, monkeypatch):
    use_small_network(monkeypatch)
    data_dir = write_own(train=[0, 1, 2] * 3, test=[2, 1, 0, 2])
    values = {"dataset": "tfds:own", "data_dir": data_dir, "train_epochs": 1}
    training.run(config(tmp_path / "run", **values))
    run = FinishedRun(tmp_path / "run", data_dir)
    assert run.class_names == ["a", "b", "c"]
    assert flags.num_classes(run.config) == 3
    known = config(tmp_path / "other", known_classes="0-1", **values)
    splits = images_of_run.load({**known, "validation_fraction": 0.4}, data_dir)
    assert {name: len(labels) for name, (_, labels) in splits.items()} == {
        "train": 4,
        "val": 2,
        "test": 2,
    }
    assert len(unknown_images.load("tfds:own", known, data_dir)) == 2


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["no_such_dataset", "imdb_reviews", "../x"])
def test_other_datasets(name):
    message = f"must be a dataset of .*Received: --dataset=tfds:{name}"
    with pytest.raises(DatasetNotFoundError, match=message):
        datasets.class_names(f"tfds:{name}")


@pytest.mark.bad_input
def test_a_dataset_that_is_not_prepared(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=rf"mnist is not in {tmp_path}"):
        datasets.load("tfds:mnist", data_dir=str(tmp_path))


@pytest.mark.bad_input
def test_damaged_files(data_dir):
    splits = datasets.load("tfds:mnist", data_dir=data_dir)
    record = splits["train"][0].records[1]
    with open(record.path, "rb") as file:
        whole = file.read()
    for data, message in (
        (whole[:-3], "must be whole"),
        (whole[:5], "must be whole"),
        (b"\xff" * len(whole), "must be whole"),
        (whole[: record.offset - tfds_images.HEADER], "have 23 examples"),
        (whole.replace(whole[record.offset :][:30], b"\xff" * 30), "damaged at"),
    ):
        with open(record.path, "wb") as file:
            file.write(data)
        with pytest.raises(ValueError, match=message):
            datasets.load("tfds:mnist", data_dir=data_dir)


@pytest.mark.bad_input
def test_damaged_files_of_a_run_are_no_flags(data_dir):
    images, _ = datasets.load("tfds:mnist", data_dir=data_dir)["train"]
    path, end = images.records[2].path, images.records[2].offset - tfds_images.HEADER
    config = flags.resolve({"dataset": "tfds:mnist"})
    # Within an example, and between two.
    for size, received in ((end + 5, path), (end, f"2 in {os.path.dirname(path)}")):
        os.truncate(path, size)
        with pytest.raises(ValueError, match=rf"Received: {received}"):
            images_of_run.load(config, data_dir)


@pytest.mark.bad_input
def test_a_damaged_image(data_dir):
    found, _ = datasets.load("tfds:mnist", data_dir=data_dir)["train"]
    record = found.records[2]
    with open(record.path, "r+b") as file:
        file.seek(record.offset)
        data = file.read(record.length)
        file.seek(record.offset + data.index(b"IHDR"))
        file.write(b"JUNK")
    message = rf"must be whole PNG.*Received: example at {record.offset} of .*mnist-train"
    with pytest.raises(ValueError, match=message):
        found[2]
    assert found[1].shape == (32, 32, 3)
