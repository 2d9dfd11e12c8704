# SPDX-License-Identifier: Apache-2.0
"""Images of no class that a run learnt: those of another dataset, or of other classes."""

import os

from deepncm_tf import flags
from deepncm_tf.data import datasets, folders, known_classes
from deepncm_tf.runs import images as run_images


def check(name, config, data_dir=None):
    """Raises a ValueError where a dataset has no images of other classes."""
    is_own = _is_own(name, config)
    if not datasets.is_known(name) or (is_own and config["known_classes"] is None):
        raise ValueError(
            f"--unknown must be another dataset than the run's, one of "
            f"{sorted(datasets.DATASETS)} or folder:PATH, or that of a run with "
            f"--known_classes. Received: --unknown={name}, of a run on {config['dataset']}"
        )
    if is_own and not _other_classes(config, data_dir):
        raise ValueError(
            "--unknown must be another dataset than the run's where --known_classes leaves "
            f"none of its classes. Received: --unknown={name}, of a run with "
            f"--known_classes={config['known_classes']}"
        )


def load(name, config, data_dir):
    """Test images of another dataset, or of the classes that the run did not learn.

    They are made as those of the run are.

    Raises:
        ValueError: If there are none.
    """
    if _is_own(name, config):
        others = known_classes.as_text(_other_classes(config, data_dir))
        others = {**config, "known_classes": others, "validation_fraction": 0.0}
        images, _ = run_images.load(others, data_dir)["test"]
    else:
        images = _of_dataset(name, config, data_dir)
    if not len(images):
        raise ValueError(
            "--unknown must have test images of classes that the run did not learn. "
            f"Received: --unknown={name}, which has none"
        )
    return images


def _of_dataset(name, config, data_dir):
    options = {
        "image_size": flags.image_size(config),
        "on_bad_image": config["on_bad_image"],
        "middle": config["middle"],
    }
    if name.startswith(datasets.FOLDER):
        return folders.load_unlabeled(name.removeprefix(datasets.FOLDER), **options)
    images, _ = datasets.load_test(name, data_dir=data_dir, **options)
    return images


def _is_own(name, config):
    """Whether it is the run's dataset or that of its tests, however it is spelled."""
    own = (config["dataset"], config["test_dataset"] or config["dataset"])
    return _place(name) in map(_place, own)


def _place(name):
    """One name of the same images, where links to a folder lead, too."""
    if name.startswith(datasets.FOLDER):
        return os.path.realpath(name.removeprefix(datasets.FOLDER))
    return name.removeprefix(datasets.TFDS)


def _other_classes(config, data_dir):
    """The classes of a run's dataset that are none of its --known_classes."""
    number = datasets.num_classes(config["dataset"], "fine", data_dir)
    return sorted(set(range(number)) - set(flags.classes(config)))
