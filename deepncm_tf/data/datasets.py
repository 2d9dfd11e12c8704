# SPDX-License-Identifier: Apache-2.0
"""The image datasets of the runs: arrays of known ones, folders of pictures."""

import dataclasses
import os
import pathlib
import socket
import urllib.request

import numpy as np

from deepncm_tf.data import digits, fashion_mnist, folders, known_classes, tfds_images
from deepncm_tf.data.image_sources import ImageSource, ResizedImages
from deepncm_tf.utils.errors import UserError

IMAGE_SHAPE = (32, 32, 3)
# TFDS retries an unreachable source for minutes; one look-up tells the same at once.
SOURCES = {
    "fashion_mnist": "fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    "": "www.cs.toronto.edu",  # of CIFAR
}
FOLDER = "folder:"  # before the path of a folder of pictures
TFDS = "tfds:"  # before the name of another dataset of TFDS


class DatasetNotFoundError(UserError):
    """The dataset is neither on disk nor within reach."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A dataset's kinds of labels, with their number of classes, and its runs' defaults."""

    num_classes: dict
    resnet_size: int = 32
    batch_size: int = 128
    train_epochs: int = 250
    bn_momentum: float = 0.997
    flip: bool = True


DATASETS = {
    "cifar10": Recipe({"fine": 10}),
    "cifar100": Recipe({"fine": 100, "coarse": 20}),
    # 1,437 images are few steps an epoch: batch statistics must follow faster. A mirrored
    # digit is another character.
    "digits": Recipe(
        {"fine": 10, "coarse": 5},
        resnet_size=8,
        batch_size=32,
        train_epochs=20,
        bn_momentum=0.99,
        flip=False,
    ),
    "fashion_mnist": Recipe({"fine": 10}, train_epochs=50),
}


# Of a folder or another dataset of TFDS: as many classes as it has. It may be small, as the
# digits are.
OTHERS = Recipe({"fine": None}, batch_size=32, train_epochs=50, bn_momentum=0.99)
IMAGENET = f"{TFDS}{tfds_images.IMAGENET}"


def is_known(name):
    """Whether it is the name of a dataset; a folder or TFDS's is not looked for."""
    others = (FOLDER, TFDS)
    return name in DATASETS or (name.startswith(others) and name not in others)


def recipe(name):
    """The `Recipe` of a dataset; a folder or TFDS's is not looked for."""
    if name == IMAGENET:
        return Recipe({"fine": 1000}, batch_size=256, train_epochs=100)
    return DATASETS.get(name, OTHERS)


def num_classes(name, label="fine", data_dir=None):
    """Number of a dataset's classes; arguments as for `load`.

    Raises:
        FolderError: If it is a folder that cannot be used.
        DatasetNotFoundError: If TFDS has no such dataset of images and labels.
    """
    return recipe(name).num_classes[label] or len(class_names(name, label, data_dir))


def load(
    name,
    label="fine",
    validation_fraction=0.0,
    data_dir=None,
    image_size=None,
    on_bad_image="fail",
    classes=None,
    middle=1.0,
    way_out=folders.REMOVE,
):
    """Loads a dataset: arrays into memory, of a folder the pictures as they are asked for.

    Args:
        name: `"cifar10"`, `"cifar100"`, `"fashion_mnist"`, `"digits"`; `"folder:PATH"`,
            see `folders.scan`; or `"tfds:NAME"`, another dataset of TFDS.
        label: `"fine"`, or `"coarse"` for the 20 superclasses of CIFAR-100 or for pairs
            of digits (label // 2).
        validation_fraction: Float in [0, 1), share of the training images that is held
            out: the same images for every seed, the same share of each class.
        data_dir: Folder of TFDS datasets, or None for TFDS's own choice.
        image_size: Int, height and width of the images, or None for 32.
        on_bad_image: `"fail"`, or `"skip"` to leave out a folder's pictures that cannot be
            read.
        classes: List of ints, rising, the classes whose images are wanted: the first is
            then class 0, and so on. None for all.
        middle: Float in (0, 1], share of the side of the middle square that is taken of
            an image.
        way_out: String, what else can be done than to mend a folder's pictures that cannot
            be read.

    Returns:
        Dictionary of splits, `"train"`, `"test"` and, where a fraction is held out,
        `"val"`, each a pair `(images, labels)`: uint8 `(n, height, width, 3)`, int32
        `(n,)`. Images of a folder, or in another size than the dataset's, are an
        `ImageSource`, which makes them when they are asked for.

    Raises:
        ValueError: If an argument is out of its range.
        FolderError: If a folder cannot be used as it is.
        DatasetNotFoundError: If the data is neither on disk nor can be downloaded.
    """
    if not is_known(name):
        raise ValueError(
            f"`name` must be one of {sorted(DATASETS)}, 'folder:PATH' or 'tfds:NAME'. "
            f"Received: name={name!r}"
        )
    labels = recipe(name).num_classes
    if label not in labels:
        raise ValueError(
            f"`label` must be one of {sorted(labels)} for {name}. Received: label={label!r}"
        )
    number = None if classes is None else num_classes(name, label, data_dir)
    if number is not None and max(classes, default=number) >= number:
        raise ValueError(
            f"`classes` must be of the {number} classes of {name}, at least one. Received: "
            f"classes={classes}"
        )
    image_size = image_size or IMAGE_SHAPE[0]
    if name.startswith(FOLDER):
        root = name.removeprefix(FOLDER)
        splits = folders.load(root, image_size, on_bad_image, 0, middle, way_out)
    elif name.startswith(TFDS):
        splits = tfds_images.load(name.removeprefix(TFDS), image_size, data_dir, middle)
    else:
        splits = _load_arrays(name, label, data_dir)
        if image_size != IMAGE_SHAPE[0] or middle < 1:
            splits = {
                split: (ResizedImages(images, image_size, middle), labels)
                for split, (images, labels) in splits.items()
            }
    if classes is not None:
        splits = known_classes.keep(splits, classes)
    if validation_fraction:
        names = class_names(name, label, data_dir)
        names = names if classes is None else [names[c] for c in classes]
        splits["train"], splits["val"] = _hold_out(
            *splits["train"], validation_fraction, names
        )
    return splits


def load_test(
    name,
    label="fine",
    data_dir=None,
    image_size=None,
    on_bad_image="fail",
    middle=1.0,
    way_out=folders.REMOVE,
):
    """The test images of a dataset, which need not have others.

    Args:
        name, label, data_dir, image_size, on_bad_image, middle, way_out: As for `load`; of
            a folder without `test` all pictures.

    Returns:
        Pair `(images, labels)` as in `load`.
    """
    size = image_size or IMAGE_SHAPE[0]
    if name.startswith(FOLDER):
        root = name.removeprefix(FOLDER)
        return folders.load_test(root, size, on_bad_image, middle, way_out)
    if name.startswith(TFDS):
        return tfds_images.load_test(name.removeprefix(TFDS), size, data_dir, middle)
    return load(name, label, 0.0, data_dir, image_size, on_bad_image, None, middle)["test"]


def _load_arrays(name, label, data_dir):
    if name == "digits":
        return digits.load(label)
    folder = data_dir or fashion_mnist.FOLDER
    if name == "fashion_mnist" and fashion_mnist.is_in(folder):
        return fashion_mnist.load(folder)
    splits = _load_tfds(name, label, data_dir)
    if name == "fashion_mnist":
        return {
            split: (fashion_mnist.as_colours(images), labels)
            for split, (images, labels) in splits.items()
        }
    return splits


def class_names(name, label="fine", data_dir=None):
    """Names of a dataset's classes, a list of strings; arguments as for `load`."""
    if name.startswith(FOLDER):
        return folders.class_names(name.removeprefix(FOLDER))
    if name.startswith(TFDS):
        return tfds_images.class_names(name.removeprefix(TFDS), data_dir)
    if name == "fashion_mnist":
        return list(fashion_mnist.CLASS_NAMES)
    if name == "digits":
        return digits.class_names(label)
    import tensorflow_datasets as tfds

    key = "coarse_label" if label == "coarse" else "label"
    return list(tfds.builder(name, data_dir=data_dir).info.features[key].names)


def _load_tfds(name, label, data_dir):
    import tensorflow_datasets as tfds

    if data_dir is not None and os.path.exists(data_dir) and not os.path.isdir(data_dir):
        raise DatasetNotFoundError(
            f"--data_dir must be a folder. Received: --data_dir={data_dir}"
        )
    builder = tfds.builder(name, data_dir=data_dir)
    if not builder.is_prepared():
        _download(builder)
    key = "coarse_label" if label == "coarse" else "label"
    splits = {}
    for split in ("train", "test"):
        data = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
        splits[split] = (data["image"], data[key].astype("int32"))
    return splits


def _download(builder):
    try:
        if not urllib.request.getproxies():
            socket.getaddrinfo(SOURCES.get(builder.name, SOURCES[""]), 443)
        builder.download_and_prepare()
    except Exception as error:  # TFDS raises what its many layers raise
        root = pathlib.Path(builder.data_dir).parents[1]
        raise DatasetNotFoundError(
            f"{builder.name} is not in {root}, and downloading it failed "
            f"({type(error).__name__}: {str(error)[:200]}). On a machine with a network "
            f'run `python -c "import tensorflow_datasets as tfds; '
            f"tfds.load('{builder.name}')\"` and copy the folder {builder.name} from its "
            "data_dir into this one, or give another as --data_dir=DIR; or try "
            "--dataset=digits, which needs no download."
        ) from error


def _hold_out(images, labels, fraction, names):
    from sklearn.model_selection import train_test_split

    if not 0 < fraction < 1:
        raise ValueError(
            "`validation_fraction` must be a number in [0, 1). "
            f"Received: validation_fraction={fraction}"
        )
    count = round(fraction * len(labels))
    if min(count, len(labels) - count) < len(names):
        raise ValueError(
            f"`validation_fraction` must leave each of {len(names)} classes at least one "
            f"of {len(labels)} images on both sides. Received: "
            f"validation_fraction={fraction}"
        )
    single = np.flatnonzero(np.bincount(labels) == 1)  # which cannot be in shares
    if len(single):
        raise ValueError(
            "`validation_fraction` must be 0 where a class has but one training image. "
            f"Received: validation_fraction={fraction}, and one image of class "
            f"{names[single[0]]!r}"
        )
    train, held_out = train_test_split(
        np.arange(len(labels)), test_size=count, stratify=labels, random_state=0
    )
    take = images.take if isinstance(images, ImageSource) else images.__getitem__
    return (take(train), labels[train]), (take(held_out), labels[held_out])
