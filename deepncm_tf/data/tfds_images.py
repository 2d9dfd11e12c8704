# SPDX-License-Identifier: Apache-2.0
"""Datasets of TFDS that are on the disk: their images one by one, by their places in files.

TFDS itself reads files from end to end. Here any image is read when it is asked for, so
that order and memory are as with other datasets.
"""

import dataclasses
import itertools
import os
import pathlib
import struct

import numpy as np

from deepncm_tf.data import image_files
from deepncm_tf.data.image_sources import ImageSource
from deepncm_tf.utils.errors import DatasetNotFoundError, one_line

HEADER, FOOTER = 12, 4  # bytes: a record's length and the checksum of that; its checksum
TEST_SPLITS = ("test", "validation")  # the first that is labelled
UNLABELLED = -1  # in place of a label
IMAGENET = "imagenet2012"  # whose archives TFDS does not download
ARCHIVES = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")


@dataclasses.dataclass(frozen=True)
class Record:
    """Where an example is: a file, the place of its bytes in it, their number."""

    path: str
    offset: int
    length: int


class RecordImages(ImageSource):
    """Images of examples in TFRecord files, decoded when they are asked for.

    Args:
        records: List of `Record`s.
        image_size, middle: As for `ImageSource`.
    """

    def __init__(self, records, image_size, middle=1.0):
        super().__init__(len(records), image_size, middle)
        self.records = records

    def read(self, row, draw_box=None):
        record = self.records[row]
        name = f"example at {record.offset} of {record.path}"
        data = read_example(record)["image"].bytes_list.value[0]
        return image_files.decode(name, self.shape[1:3], self.middle, data, draw_box)

    def take(self, rows):
        records = [self.records[row] for row in rows]
        return RecordImages(records, self.shape[1], self.middle)


def class_names(name, data_dir=None):
    """Names of the classes of a dataset, a list of strings; arguments as for `load`.

    Raises:
        DatasetNotFoundError: If TFDS has no such dataset of images and labels.
    """
    return list(_builder(name, data_dir).info.features["label"].names)


def load(name, image_size, data_dir=None, middle=1.0):
    """A dataset that TFDS has prepared.

    Args:
        name: String, its name in TFDS, with its config where there are several.
        image_size: Int, height and width of the images.
        data_dir: Folder of TFDS datasets, or None for TFDS's own choice.
        middle: Float in (0, 1], as for `ImageSource`.

    Returns:
        Dictionary from `"train"` and `"test"`, for which its split `validation` stands
        where it has no other with labels, to `(images, labels)`: a `RecordImages` and
        int32 `(n,)`.

    Raises:
        DatasetNotFoundError: If there is no such dataset on the disk, or it has no such
            splits.
        ValueError: If its files are damaged, or not all of its examples have a label.
    """
    splits = _prepared(name, data_dir).info.splits
    test = _test_split(splits)
    if "train" not in splits or test is None:
        raise DatasetNotFoundError(
            f"--dataset=tfds:{name} must have the splits train and test, or validation, "
            f"with labels. Received: {', '.join(splits)}"
        )
    return {
        split: _load_split(splits[source], image_size, middle)
        for split, source in (("train", "train"), ("test", test))
    }


def load_test(name, image_size, data_dir=None, middle=1.0):
    """The test images of a dataset that TFDS has prepared, which need not have others.

    Args:
        name, image_size, data_dir, middle: As for `load`.

    Returns:
        Pair `(images, labels)` as in `load`.

    Raises:
        DatasetNotFoundError, ValueError: As `load`.
    """
    splits = _prepared(name, data_dir).info.splits
    test = _test_split(splits)
    if test is None:
        raise DatasetNotFoundError(
            f"--test_dataset=tfds:{name} must have the split test, or validation, with "
            f"labels. Received: {', '.join(splits)}"
        )
    return _load_split(splits[test], image_size, middle)


def _prepared(name, data_dir):
    """The builder of a dataset that is on the disk."""
    builder = _builder(name, data_dir)
    if not builder.is_prepared() and name.split(":")[0] == IMAGENET:
        raise DatasetNotFoundError(
            f"{name} is not in {builder.data_dir}. Put {' and '.join(ARCHIVES)}, from "
            f"image-net.org, into {_manual_folder(builder)}, and run "
            f'`python -c "import tensorflow_datasets as tfds; '
            f'tfds.builder({name!r}{_where(data_dir)}).download_and_prepare()"`'
        )
    if not builder.is_prepared():
        raise DatasetNotFoundError(
            f"{name} is not in {builder.data_dir}. On a machine with a network run "
            '`python -c "import tensorflow_datasets as tfds; '
            f"tfds.load('{name}')\"`, or give another --data_dir=DIR"
        )
    return builder


def find_records(path):
    """The records of a TFRecord file, of which only the lengths are read.

    Raises:
        ValueError: If it is cut, or no such file.
    """
    path = os.fspath(path)
    size, records = os.path.getsize(path), []
    with open(path, "rb") as file:
        offset = 0
        while offset < size:
            header = file.read(HEADER)
            length = struct.unpack("<Q", header[:8])[0] if len(header) == HEADER else size
            end = offset + HEADER + length + FOOTER
            if end > size:
                raise ValueError(f"A TFRecord file must be whole. Received: {path}")
            records.append(Record(path, offset + HEADER, length))
            file.seek(end)
            offset = end
    return records


def read_example(record):
    """The features of an example, by name.

    Raises:
        ValueError: If it is damaged.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    with open(record.path, "rb") as file:
        file.seek(record.offset)
        data = file.read(record.length)
    try:
        return tf.train.Example.FromString(data).features.feature
    except DecodeError as error:
        raise ValueError(
            f"A TFRecord file must be whole. Received: {record.path}, damaged at "
            f"{record.offset}"
        ) from error


def _test_split(splits):
    """Name of the first split for tests whose first example has a label, or None."""
    for name in TEST_SPLITS:
        paths = splits[name].filepaths if name in splits else []
        records = itertools.chain.from_iterable(map(find_records, paths))
        first = next(records, None)
        if first is not None and _label(first) != UNLABELLED:
            return name
    return None


def _label(record):
    return read_example(record)["label"].int64_list.value[0]


def _load_split(split, image_size, middle):
    records = [record for path in split.filepaths for record in find_records(path)]
    if len(records) != split.num_examples:
        raise ValueError(
            f"TFDS's split {split.name} must have {split.num_examples} examples. Received: "
            f"{len(records)} in {os.path.dirname(split.filepaths[0])}"
        )
    labels = np.array([_label(record) for record in records], "int32")
    if UNLABELLED in labels:
        raise ValueError(
            f"TFDS's split {split.name} must have a label for each example. Received: "
            f"{np.sum(labels == UNLABELLED)} of {len(labels)} without, in "
            f"{os.path.dirname(split.filepaths[0])}"
        )
    return RecordImages(records, image_size, middle), labels


def _manual_folder(builder):
    """Where TFDS looks for archives that users put there."""
    root = pathlib.Path(builder.data_dir).parents[1]
    return root / "downloads" / "manual"


def _where(data_dir):
    return "" if data_dir is None else f", data_dir={os.fspath(data_dir)!r}"


def _builder(name, data_dir=None):
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
        features = builder.info.features
    except Exception as error:  # TFDS raises what its many layers raise
        raise DatasetNotFoundError(
            f"--dataset=tfds:NAME must be a dataset of TFDS ({one_line(error)}). Received: "
            f"--dataset=tfds:{name}"
        ) from error
    wanted = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    if not isinstance(features, tfds.features.FeaturesDict) or not all(
        name in features and isinstance(features[name], kind)
        for name, kind in wanted.items()
    ):
        raise DatasetNotFoundError(
            "--dataset=tfds:NAME must be a dataset of images with a label each. Received: "
            f"--dataset=tfds:{name}"
        )
    return builder
