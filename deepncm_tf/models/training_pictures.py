# SPDX-License-Identifier: Apache-2.0
"""The pictures that a model was taught, kept with it: names, classes, features."""

import dataclasses
import pathlib

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingPictures:
    """The pictures of a folder that a model has learnt.

    Attributes:
        root: String, the folder.
        names: `(n,)` strings, the pictures' paths within it.
        labels: `(n,)` integers, their classes.
        features: `(n, d)` float32, as the classifier gets them.
        scaling: String, what the backbone takes, as in `pipeline.SCALINGS`.
    """

    root: str
    names: np.ndarray
    labels: np.ndarray
    features: np.ndarray
    scaling: str

    def save(self, path):
        np.savez_compressed(path, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path):
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        root, scaling = str(arrays.pop("root")), str(arrays.pop("scaling"))
        return cls(root=root, scaling=scaling, **arrays)

    @property
    def paths(self):
        """Paths of the pictures, a list of `pathlib.Path`."""
        return [pathlib.Path(self.root, str(name)) for name in self.names]
