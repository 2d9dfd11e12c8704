# SPDX-License-Identifier: Apache-2.0
"""Whether augmentation can be the bottleneck of training.

Measures in turn, in this process: batches from the training pipeline alone; training
steps on one batch held in memory; and training from the pipeline, as a run does.

    python benchmarks/input_pipeline.py --resnet_size=8
"""

import argparse
import statistics
import time

import numpy as np

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import DecayMean
from deepncm_tf.data import pipeline
from official_resnet import cifar_resnet, optimizer

BATCH_SIZE = 128
STEPS = 20


def images_per_second(step, steps=STEPS):
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return steps * BATCH_SIZE / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resnet_size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(50_000, 32, 32, 3)).astype("uint8")
    labels = rng.integers(10, size=50_000).astype("int32")
    model = DeepNCM(
        cifar_resnet(arguments.resnet_size), DecayMean(10), gradient_clip=1.0, l2=2e-4
    )
    model.compile(optimizer(0.1), metrics=["accuracy"])

    dataset = pipeline.training_dataset(images, labels, BATCH_SIZE, epochs=1000)
    batches = iter(dataset)
    held = next(batches)

    def alone():
        fresh = iter(dataset)  # whose buffers nothing has filled yet
        return images_per_second(lambda: next(fresh)[1].numpy(), steps=390)

    measurements = {
        "pipeline alone": alone,
        "training on one batch": lambda: images_per_second(
            lambda: model.train_on_batch(*held)
        ),
        "training from the pipeline": lambda: images_per_second(
            lambda: model.train_on_batch(*next(batches))
        ),
    }
    rates = {name: [] for name in measurements}
    for round_number in range(arguments.rounds + 1):
        for name, measure in measurements.items():
            rate = measure()
            if round_number > 0:  # the first round traces and fills the buffers
                rates[name].append(rate)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, rate in medians.items():
        print(f"{name}: {rate:,.0f} images/s")
    alone, one_batch, both = medians.values()
    print(
        f"ResNet-{arguments.resnet_size}: the pipeline is {alone / one_batch:.0f} times as "
        f"fast as training; training from it runs at {both / one_batch:.0%} of the speed "
        "on a batch in memory"
    )


if __name__ == "__main__":
    main()
