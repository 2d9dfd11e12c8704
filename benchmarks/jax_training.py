# SPDX-License-Identifier: Apache-2.0
"""Trains ResNet-32 with each head on Keras's JAX backend, and says how long a step takes.

    python benchmarks/jax_training.py --rounds=5

needs keras, jax, numpy and this package's folder alone: for machines with a GPU and without
TensorFlow. Images are noise with a class in their mean, of the shape of CIFAR's; the losses
are the first step's and the last round's.
"""

import argparse
import os
import pathlib
import statistics
import sys
import time

os.environ["KERAS_BACKEND"] = "jax"
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax
import keras
import numpy as np

from deepncm_tf import classifiers
from deepncm_tf.models.deep_ncm import DeepNCM
from official_resnet import cifar_resnet, recipe

C = 10
HEADS = {
    "softmax": {},
    "online": {},
    "condensation": {"condensation_steps": 100},
    "decay": {},
    "dnc": {"num_sub_centroids": 4, "logit_norm": 0.0625},
    "nca": {"bank_size": 50_000},
    "lda": {},
    "ranpac": {"num_features": 1000},
}


def make_model(name, size):
    """The published network with a head, ready to train."""
    method = classifiers.NAMES[name]
    arguments = dict(HEADS[name])
    if name == "nca":
        arguments["bank_labels"] = np.arange(arguments["bank_size"]) % C
    if name == "dnc":
        arguments["memory_size"] = 101 * recipe.BATCH_SIZE
    model = DeepNCM(
        cifar_resnet(size),
        method(C, **arguments),
        embedding_dim=128 if name in ("dnc", "nca") else None,
        normalize=method.wants_unit_features,
        gradient_clip=recipe.GRADIENT_CLIP,
        l2=recipe.WEIGHT_DECAY,
    )
    model.compile(keras.optimizers.SGD(0.01, momentum=recipe.MOMENTUM))
    return model


def batches(number, size):
    """Batches of images, indices and labels, which are on the device already."""
    rng = np.random.default_rng(0)
    for step in range(number):
        index = np.arange(step * size, (step + 1) * size, dtype="int32")
        labels = index % C
        images = rng.normal(size=(size, 32, 32, 3)) + 0.2 * labels[:, None, None, None]
        arrays = images.astype("float32"), index, labels.astype("int32")
        image, index, label = map(jax.device_put, arrays)
        yield {"image": image, "index": index}, label


def measure(name, options):
    """Milliseconds of a step: a list, a round each; and the losses before and after."""
    keras.utils.set_random_seed(0)
    model = make_model(name, options.resnet_size)
    data = list(batches(options.steps, options.batch_size))
    first, last = (Losses() for _ in range(2))
    fit = {"epochs": 1, "steps_per_epoch": options.steps, "verbose": 0}
    model.fit(Batches(data), callbacks=[first], **fit)  # compiles
    times = []
    for _ in range(options.rounds):
        started = time.perf_counter()
        model.fit(Batches(data), callbacks=[last], **fit)
        jax.block_until_ready(model.trainable_variables[0].value)
        times.append(1000 * (time.perf_counter() - started) / options.steps)
    return times, first.first, last.last


class Batches(keras.utils.PyDataset):
    """Batches that are there already."""

    def __init__(self, data):
        super().__init__()
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, number):
        return self.data[number]


class Losses(keras.callbacks.Callback):
    """Keeps the mean loss after the first step and at the end of an epoch."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 0:
            self.first = float(logs["loss"])

    def on_epoch_end(self, epoch, logs=None):
        self.last = float(logs["loss"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--resnet_size", type=int, default=32)
    parser.add_argument("--batch_size", type=int, default=recipe.BATCH_SIZE)
    parser.add_argument("--steps", type=int, default=50, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--heads", default=",".join(HEADS))
    options = parser.parse_args()
    names = options.heads.split(",")
    if not set(names) <= set(HEADS):
        parser.error(f"--heads must be of {', '.join(HEADS)}. Received: {options.heads}")
    print(
        f"{jax.devices()[0].device_kind}; jax {jax.__version__}, keras "
        f"{keras.__version__}; ResNet-{options.resnet_size}, batches of "
        f"{options.batch_size}, {options.rounds} rounds of {options.steps} steps"
    )
    print("| head | ms a step, median | fastest, slowest round | loss, first and last |")
    print("|---|---|---|---|")
    for name in names:
        times, first, last = measure(name, options)
        print(
            f"| {name} | {statistics.median(times):.2f} | {min(times):.2f}, "
            f"{max(times):.2f} | {first:.3f}, {last:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
