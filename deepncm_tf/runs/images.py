# SPDX-License-Identifier: Apache-2.0
"""The images of a run, as its flags describe them."""

import contextlib
import re

from deepncm_tf import flags
from deepncm_tf.data import datasets, known_classes
from deepncm_tf.utils.errors import UserError


def load(config, data_dir=None, way_out=""):
    """The images of a run.

    Args:
        config: Dictionary of flags as from `flags.resolve`.
        data_dir: Folder of TFDS datasets, or None for TFDS's own choice.
        way_out: String, as for `datasets.load`; a run that is finished needs the pictures
            that it was begun with.

    Returns:
        Dictionary of splits, as from `datasets.load`; with `--test_dataset` the test images
        are those of that dataset.

    Raises:
        ValueError, FolderError, DatasetNotFoundError: As `datasets.load`, or if the other
            dataset has other classes.
    """
    classes = flags.classes(config)
    _check_known(config, classes, data_dir)
    with _named_as_flags():
        splits = datasets.load(
            config["dataset"],
            config["label"],
            config["validation_fraction"],
            data_dir,
            flags.image_size(config),
            config["on_bad_image"],
            classes,
            config["middle"],
            way_out,
        )
    if config["test_dataset"] is None:
        return splits
    names = [
        datasets.class_names(config[name], config["label"], data_dir)
        for name in ("dataset", "test_dataset")
    ]
    if names[0] != names[1]:
        raise ValueError(
            f"--test_dataset must have the {len(names[0])} classes of --dataset="
            f"{config['dataset']}. Received: {len(names[1])} classes, or others, in "
            f"--test_dataset={config['test_dataset']}"
        )
    test = datasets.load_test(
        config["test_dataset"],
        config["label"],
        data_dir,
        flags.image_size(config),
        config["on_bad_image"],
        config["middle"],
        way_out,
    )
    if classes is not None:
        test = known_classes.keep({"test": test}, classes)["test"]
    return {**splits, "test": test}


def _check_known(config, classes, data_dir):
    """Raises a ValueError where a dataset has fewer classes than --known_classes names."""
    if classes is None:
        return
    number = datasets.num_classes(config["dataset"], config["label"], data_dir)
    if classes[-1] >= number:
        raise ValueError(
            f"--known_classes must be of the classes 0-{number - 1} of --dataset="
            f"{config['dataset']}. Received: --known_classes={config['known_classes']}"
        )


@contextlib.contextmanager
def _named_as_flags():
    """Errors that name arguments name the flags, which are called the same."""
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        text = str(error)
        for name in re.findall(r"`(\w+)`", text):
            text = text.replace(f"`{name}`", f"--{name}")
            text = text.replace(f"Received: {name}=", f"Received: --{name}=")
        raise ValueError(text) from error
