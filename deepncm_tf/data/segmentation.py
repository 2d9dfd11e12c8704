# SPDX-License-Identifier: Apache-2.0
"""Sets of images and masks: of TFDS, of folders, or made by the program."""

import functools
import pathlib
import sys

import numpy as np

from deepncm_tf.data import (
    image_files,
    mask_classes,
    mask_files,
    mask_folders,
    segmentation_sets,
    shapes,
    tfds_images,
)
from deepncm_tf.data.datasets import FOLDER, TFDS
from deepncm_tf.data.image_sources import ImageSource
from deepncm_tf.data.mask_folders import VALIDATION
from deepncm_tf.utils.errors import DatasetNotFoundError, one_line

IN_MEMORY = 2**30  # bytes of a split's images and masks that are held decoded
TEST_FRACTION = 0.2  # of a folder without test/
AT_ONCE = 64  # masks that are read to see what values they have
NONE = np.zeros(256, "uint8")


class Computed(ImageSource):
    """Images or masks that a function of their row makes.

    Args:
        function: Function from an element of `items` to a uint8 array of `shape`.
        items: List.
        shape: Tuple, shape of one.
    """

    def __init__(self, function, items, shape):
        super().__init__(len(items), None)
        self.shape = (len(items), *shape)
        self.function, self.items = function, items

    def read(self, row):
        return self.function(self.items[row])

    def take(self, rows):
        return Computed(self.function, [self.items[row] for row in rows], self.shape[1:])


def load(name, image_shape, data_dir=None):
    """Loads a set.

    Args:
        name: `"shapes"`; `"camvid"`, `"oxford_iiit_pet"`, `"cityscapes"` or
            `"scene_parse150"`, as TFDS has them on the disk; `"tfds:NAME"`, another set of
            TFDS with `image` and `segmentation_mask`; or `"folder:PATH"`, a folder with
            `images/` and `masks/`, or with `train/` and `test/` (and `val/`) that have.
        image_shape: `(height, width)` to which all images and masks are resized.
        data_dir: Folder of TFDS datasets, or None for TFDS's own choice.

    Returns:
        Dictionary of splits, `"train"`, `"test"` and, where there is one, `"val"`, each a
        pair `(images, masks)`: uint8 `(n, height, width, 3)`, and uint8
        `(n, height, width)` of classes, 255 for void. What does not fit into memory is an
        `ImageSource`.

    Raises:
        FolderError: If a folder cannot be used as it is, a split's masks are void all
            over, or those for training have pixels of one class alone.
        DatasetNotFoundError: If TFDS has no such set on the disk.
        ValueError: If a mask is none.
    """
    if name == "shapes":
        splits = shapes.load()
        if tuple(image_shape) != (shapes.SIZE, shapes.SIZE):
            raise ValueError(
                f"--image_shape must be {shapes.SIZE}x{shapes.SIZE} for --dataset=shapes. "
                f"Received: --image_shape={'x'.join(map(str, image_shape))}"
            )
        return splits
    if name.startswith(FOLDER):
        splits = _load_folder(name.removeprefix(FOLDER), image_shape)
    else:
        splits = _load_tfds(name, image_shape, data_dir)
    splits = {split: _in_memory(*pair) for split, pair in splits.items()}
    found = {split: _values(masks) for split, (_, masks) in splits.items()}
    place = f"--dataset={name} at --image_shape={'x'.join(map(str, image_shape))}"
    mask_classes.check_pixels(found, class_names(name, data_dir), place)
    return splits


def class_names(name, data_dir=None):
    """Names of a set's classes, a list of strings; arguments as for `load`."""
    known = segmentation_sets.find(name)
    if known.class_names is not None:
        return list(known.class_names)
    if name.startswith(FOLDER):
        return list(_folder_names(name.removeprefix(FOLDER)))
    return list(_tfds_names(name, data_dir))


def _in_memory(images, masks):
    if np.prod(images.shape, dtype="int64") * 4 // 3 > IN_MEMORY:
        return images, masks
    return images[:], masks[:]


def _values(masks):
    """Which values a split's masks have, `(256,)`.

    Of masks that are not in memory no more are read than show that there are two classes:
    they then count as having all.
    """
    if isinstance(masks, np.ndarray):
        return _any(map(mask_classes.find_values, masks))
    values = NONE
    for start in range(0, len(masks), AT_ONCE):
        values = _any(map(mask_classes.find_values, masks[start : start + AT_ONCE]), values)
        if np.count_nonzero(values[: mask_files.VOID]) > 1:
            return np.ones_like(values)
    return values


def _any(values, first=NONE):
    """Which values one of several masks has, or more of them."""
    return np.any([first, *values], axis=0).astype("uint8")


def _load_folder(root, image_shape):
    classes = mask_files.table(range(len(_folder_names(root))))
    splits = {}
    for split, pairs in mask_folders.folder_pairs(root).items():
        read_image = functools.partial(image_files.decode, size=image_shape)

        def read_mask(pair, classes=classes):
            size = mask_files.image_size(pair[0])
            return mask_files.read(pair[1], image_shape, classes, size)

        splits[split] = (
            Computed(lambda pair, read=read_image: read(pair[0]), pairs, (*image_shape, 3)),
            Computed(read_mask, pairs, tuple(image_shape)),
        )
    _warn_of_folders(pathlib.Path(root))
    if "test" not in splits:
        number = len(splits["train"][0])
        order = np.random.default_rng(0).permutation(number)
        count = min(max(round(TEST_FRACTION * number), 1), number - 1)
        rows = {"test": np.sort(order[:count]), "train": np.sort(order[count:])}
        whole = splits["train"]
        splits |= {n: tuple(s.take(r) for s in whole) for n, r in rows.items()}
    return splits


def _warn_of_folders(root):
    """Says which folders look like splits and are left out."""
    folders, used = mask_folders.left_out(root)
    names = ", ".join(f"{name}/" for name in used[:-1])
    for folder in folders:
        print(
            f"Warning: {folder} is left out; only {names} and {used[-1]}/ are used.",
            file=sys.stderr,
        )


@functools.cache
def _folder_names(root):
    """Those of classes.txt, a line each; else as many numbers as the masks have."""
    path = pathlib.Path(root) / mask_classes.NAMES
    if path.exists():
        names = mask_classes.read_names(path)
        mask_classes.check_names(names, root)
    else:
        values = _folder_values(root)
        names = mask_classes.numbers(values)
        mask_classes.check_names(names, root, values)
    return tuple(names)


def _folder_values(root):
    """Which values the masks of all splits have in their own size."""
    pairs = [pair for pairs in mask_folders.folder_pairs(root).values() for pair in pairs]

    def read(pair):
        return mask_files.read(pair[1], None, image_size=mask_files.image_size(pair[0]))

    return _read_values(read, pairs)


def _read_values(read, items):
    source = Computed(lambda item: mask_classes.find_values(read(item)), items, (256,))
    return _any(source[:])


def _load_tfds(name, image_shape, data_dir):
    known, info, splits = _tfds(name, data_dir)
    names = class_names(name, data_dir)
    classes = mask_files.table(known.labels or range(len(names)), known.void)
    loaded = {}
    for split, source in splits.items():
        records = _records(info.splits[source])
        if split == "train" and not records:
            raise DatasetNotFoundError(f"{name} must have images. Received: none")

        def read_image(record):
            data = tfds_images.read_example(record)[known.image_key].bytes_list.value[0]
            return image_files.decode(_place(record), image_shape, data=data)

        def read_mask(record):
            data = tfds_images.read_example(record)[known.mask_key].bytes_list.value[0]
            return mask_files.read(_place(record), image_shape, classes, data=data)

        loaded[split] = (
            Computed(read_image, records, (*image_shape, 3)),
            Computed(read_mask, records, tuple(image_shape)),
        )
    return loaded


def _records(split):
    return [record for path in split.filepaths for record in tfds_images.find_records(path)]


def _place(record):
    return f"example at {record.offset} of {record.path}"


@functools.cache
def _tfds_names(name, data_dir):
    values = _tfds_values(name, data_dir)
    names = mask_classes.numbers(values)
    mask_classes.check_names(names, f"--dataset={name}", values)
    return tuple(names)


def _tfds_values(name, data_dir):
    """As `_folder_values`, from records."""
    known, info, splits = _tfds(name, data_dir)
    records = [
        record for source in splits.values() for record in _records(info.splits[source])
    ]

    def read(record):
        data = tfds_images.read_example(record)[known.mask_key].bytes_list.value[0]
        return mask_files.read(_place(record), None, data=data)

    return _read_values(read, records)


def _tfds(name, data_dir):
    """What is known of a set of TFDS, its info, and its own names of the splits."""
    import tensorflow_datasets as tfds

    known = segmentation_sets.find(name)
    own_name = known.tfds_name or name.removeprefix(TFDS)
    try:
        builder = tfds.builder(own_name, data_dir=data_dir)
        features = builder.info.features
        kinds = [features[key] for key in (known.image_key, known.mask_key)]
    except Exception as error:  # TFDS raises what its many layers raise
        raise DatasetNotFoundError(
            f"--dataset={name} must be a set of TFDS with {known.image_key} and "
            f"{known.mask_key} ({one_line(error)}). Received: --dataset={name}; "
            "--dataset=shapes needs no download"
        ) from error
    if not all(isinstance(kind, tfds.features.Image) for kind in kinds):
        raise DatasetNotFoundError(
            f"--dataset=tfds:NAME must be a set of images with a mask each. Received: "
            f"--dataset={name}"
        )
    if not builder.is_prepared():
        raise DatasetNotFoundError(
            f"{own_name} is not in {builder.data_dir}. On a machine with a network run "
            '`python -c "import tensorflow_datasets as tfds; '
            f"tfds.load('{own_name}')\"`, or give another --data_dir=DIR; or try "
            "--dataset=shapes, which needs no download"
        )
    return known, builder.info, _splits(name, known, builder.info.splits)


def _splits(name, known, available):
    tests = [known.test_split] if known.test_split else ["test", *VALIDATION]
    tests = [split for split in tests if split in available]
    if "train" not in available or not tests:
        raise DatasetNotFoundError(
            f"--dataset={name} must have the splits train and test, or validation. "
            f"Received: {', '.join(available)}"
        )
    splits = {"train": "train", "test": tests[0]}
    for split in VALIDATION:
        if split in available and split != tests[0]:
            splits["val"] = split
    return splits
