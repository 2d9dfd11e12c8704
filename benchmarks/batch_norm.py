# SPDX-License-Identifier: Apache-2.0
"""How much faster the CIFAR ResNet trains with fused batch normalization.

The two models differ in the normalization layer alone and train in turn in this process,
a few steps each at a time, so that both meet the same load of the machine.

    python benchmarks/batch_norm.py --resnet_size=8
"""

import argparse
import statistics
import time
from unittest import mock

import keras
import numpy as np

from official_resnet import cifar_resnet, normalization

BATCH_SIZE = 128
STEPS = 5


def make_model(depth, layer):
    with mock.patch.object(normalization, "BatchNormalization", layer):
        backbone = cifar_resnet(depth)
    model = keras.Sequential([backbone, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss=loss)
    return model


def seconds(model, images, labels):
    start = time.perf_counter()
    for _ in range(STEPS):
        model.train_on_batch(images, labels)
    return (time.perf_counter() - start) / STEPS


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resnet_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    images = rng.normal(size=(BATCH_SIZE, 32, 32, 3)).astype("float32")
    labels = rng.integers(10, size=BATCH_SIZE)
    models = {
        "keras": make_model(arguments.resnet_size, keras.layers.BatchNormalization),
        "fused": make_model(arguments.resnet_size, normalization.BatchNormalization),
    }
    times = {name: [] for name in models}
    for round_number in range(arguments.rounds + 1):
        for name, model in models.items():
            measured = seconds(model, images, labels)
            if round_number > 0:  # the first round traces
                times[name].append(measured)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = [a / b for a, b in zip(times["keras"], times["fused"], strict=True)]
    print(
        f"ResNet-{arguments.resnet_size}, batch {BATCH_SIZE}: "
        f"keras {1000 * medians['keras']:.0f} ms/step, "
        f"fused {1000 * medians['fused']:.0f} ms/step, "
        f"ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds)"
    )


if __name__ == "__main__":
    main()
