# SPDX-License-Identifier: Apache-2.0
"""A model of `python -m deepncm_tf.teach`, opened for what is asked of it afterwards."""

import functools
import pathlib

import numpy as np

from deepncm_tf.data import datasets, image_files


def check_file(flag, path):
    """Raises a ValueError unless a path can be that of a file of `teach`.

    Args:
        flag: String, name of the flag that says so.
        path: Path.
    """
    if pathlib.Path(path).suffix != ".keras":
        raise ValueError(
            f"--{flag} must be a file that teach wrote, .keras. Received: --{flag}={path}"
        )
    try:
        open(path, "rb").close()
    except OSError as error:
        raise ValueError(
            f"--{flag} must be a file that teach wrote ({error.strerror}). "
            f"Received: --{flag}={path}"
        ) from error


def check_flags(model, model_dir, image_paths, of_runs):
    """Raises a ValueError unless `explain` has a file of `teach`, alone, and images.

    Args:
        model, model_dir: Values of the flags.
        image_paths: List of paths.
        of_runs: Dictionary of flags that are of runs alone, None where they are not given.
    """
    if model_dir:
        raise ValueError(
            "--model must be given without --model_dir. Received: "
            f"--model={model} --model_dir={model_dir}"
        )
    if not image_paths:
        raise ValueError(
            "--images must be given with --model, which has learnt all pictures of its "
            f"folder. Received: --model={model}"
        )
    for name, value in of_runs.items():
        if value is None:
            continue
        calibrates = name in ("alpha", "score")
        wanted = "to teach, which calibrates" if calibrates else "without --model"
        raise ValueError(
            f"--{name} must be given {wanted}. Received: --model={model} --{name}={value}"
        )
    check_file("model", model)


def open_run(path, data_dir=None):
    """What `teach` or a run has made.

    Args:
        path: Path of a file of `teach`, or of the folder of a finished run.
        data_dir: Folder of TFDS datasets, or None.

    Returns:
        A `TaughtModel` or a `FinishedRun`.
    """
    if pathlib.Path(path).suffix == ".keras":
        return TaughtModel(path)
    from deepncm_tf.runs.finished_run import FinishedRun

    return FinishedRun(path, data_dir)


class TaughtModel:
    """A taught model; in the place of a `FinishedRun`, whose attributes it has.

    Args:
        path: Path of the model's file.

    Attributes:
        config: Dictionary of some of the flags of a run: `dataset` and `ncm`.
        model: The `DeepNCM`.
        pictures: Its `TrainingPictures`.
        splits: Dictionary with `"train"` alone: the pictures that it was taught.
        class_names: List of strings.

    Raises:
        RunError: If there is no such file.
    """

    def __init__(self, path):
        from deepncm_tf.data.image_sources import ImageFiles
        from deepncm_tf.runs import model_file
        from deepncm_tf.teaching.lesson import method_of

        self.path = pathlib.Path(path)
        self.model = model_file.load_taught(self.path)
        self.pictures = self.model.pictures
        self.class_names = self.model.class_names
        self.config = {
            "dataset": datasets.FOLDER + self.pictures.root,
            "ncm": method_of(self.model.classifier),
        }
        self.image_size = self.model.input_shapes[1]
        images = ImageFiles(self.pictures.paths, self.image_size)
        self.splits = {"train": (images, self.pictures.labels)}

    def embed(self, images):
        """Features of pictures as they are: `(n, d)` float32."""
        from deepncm_tf.runs.finished_run import embed

        return embed(self.model, images, self.pictures.scaling)

    def training_features(self):
        """Features of the pictures that it was taught, `(n, d)` float32."""
        return self.pictures.features

    def classify(self, images):
        """Classes of pictures, or that they are of none.

        Args:
            images: uint8 `(n, size, size, 3)`, as from `read`.

        Returns:
            List of n dictionaries that JSON can hold: `class`, a name, or `"unknown"`;
            `known`, a bool, since a class may be called so, too; `p_value`; `possible`,
            names of the classes that are not ruled out; `nearest`, a dictionary of the
            nearest taught `picture`, its `class` and `similarity`.
        """
        from deepncm_tf.evaluation import neighbors
        from deepncm_tf.models import rejection

        if not len(images):
            return []
        features = self.embed(images)
        found = rejection.classify_features(self.model, features)
        similarities, rows = neighbors.nearest(
            neighbors.unit_rows(features), self._units, 1
        )
        return [
            {
                "class": found.names[i],
                "known": bool(found.classes[i] >= 0),
                "p_value": float(found.p_values[i]),
                "possible": [
                    name
                    for name, is_in in zip(
                        self.class_names, found.prediction_sets[i], strict=True
                    )
                    if is_in
                ],
                "nearest": {
                    "picture": str(self.pictures.paths[row]),
                    "class": self.class_names[self.pictures.labels[row]],
                    "similarity": float(similarity),
                },
            }
            for i, (row, similarity) in enumerate(
                zip(rows[:, 0], similarities[:, 0], strict=True)
            )
        ]

    @functools.cached_property
    def _units(self):
        from deepncm_tf.evaluation import neighbors

        return neighbors.unit_rows(self.pictures.features)

    def read(self, paths):
        """Reads picture files as the model takes them.

        Args:
            paths: List of paths.

        Returns:
            `(images, read, errors)`: `(n, size, size, 3)` uint8, the paths of these, and
            the errors of those that cannot be read.
        """
        images, read, errors = [], [], []
        for path in paths:
            try:
                size = (self.image_size, self.image_size)
                images.append(image_files.read(path, size, middle=True))
                read.append(path)
            except ValueError as error:
                errors.append(error)
        shape = (len(images), self.image_size, self.image_size, 3)
        return np.array(images, "uint8").reshape(shape), read, errors
