# SPDX-License-Identifier: Apache-2.0
"""Runs of every method whose files later versions must be able to read.

    python tests/support/golden_runs.py FOLDER

trains a very small network on a few digits, where the folder has no such run yet, and keeps
of each run `config.json`, `model.keras`, the last checkpoint, and `logits.npy` of the first
test images. The golden ones were made by the commits that their README names, and are not
made again.
"""

import pathlib
import sys

import keras
import numpy as np

SIZES = {"train": 70, "test": 20}
QUERIES = 8
DNC = {"embedding_dim": 8, "memory_batches": 1, "num_sub_centroids": "2"}
METHODS = {
    "softmax": {},
    "online": {},
    "condensation": {"condensation_steps": 2},
    "decay": {"decay": 0.5},
    "dnc": DNC,
    "nca": {"embedding_dim": 8},
    "lda": {},
    "ranpac": {"random_features": 20},
}


def values(method):
    """The flags of a run, without its folder."""
    values = {"ncm": method, "dataset": "digits", "train_epochs": 2}
    return {**METHODS[method], **values}


def network(*args, **kwargs):
    from official_resnet import BatchNormalization

    return keras.Sequential(
        [
            keras.Input((32, 32, 3), name="image"),
            keras.layers.Conv2D(4, 8, strides=8),
            BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(6),
        ]
    )


def load_few(*args, load=None, **kwargs):
    splits = load(*args, **kwargs)
    return {name: (x[: SIZES[name]], y[: SIZES[name]]) for name, (x, y) in splits.items()}


def main(folder):
    from deepncm_tf import flags
    from deepncm_tf.data import datasets, pipeline
    from deepncm_tf.runs import training

    load = datasets.load
    datasets.load = lambda *args, **kwargs: load_few(*args, load=load, **kwargs)
    training.cifar_resnet = network
    images, _ = load_few("digits", load=load)["test"]
    for method in METHODS:
        path = pathlib.Path(folder) / method
        if path.exists():
            continue
        training.run(flags.resolve({**values(method), "model_dir": str(path)}))
        model = keras.models.load_model(path / "model.keras")
        logits = model.predict(pipeline.standardize(images[:QUERIES]), verbose=0)
        np.save(path / "logits.npy", logits)


if __name__ == "__main__":
    main(sys.argv[1])
