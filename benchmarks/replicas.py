# SPDX-License-Identifier: Apache-2.0
"""How far replicas are from one device: largest differences after three epochs.

ResNet-8 on 257 random images in batches of 128 (the last batch is one image, which leaves
replicas without any), with clipping, weight decay and momentum, in float64. Each
configuration is a process of its own.

    python benchmarks/replicas.py
"""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

import numpy as np

METHODS = {
    "softmax": {},
    "online": {},
    "condensation": {"condensation_steps": 2},
    "decay": {"decay": 0.9},
}
N, BATCH, EPOCHS, C = 257, 128, 3, 10


def train(output, method, dtype, strategy_name, num_replicas, permute):
    import keras

    from deepncm_tf import DeepNCM, classifiers
    from deepncm_tf.data import pipeline
    from deepncm_tf.distribution import strategies
    from official_resnet import cifar_resnet, recipe

    strategy = strategies.get_strategy(strategy_name, num_replicas)
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    labels = rng.integers(C, size=N).astype("int32")
    images = rng.integers(256, size=(N, 32, 32, 3)).astype("uint8")
    if permute:
        reverse_batches()
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = DeepNCM(
            cifar_resnet(8, bn_momentum=0.9),
            classifiers.get(method, num_classes=C, **METHODS[method]),
            gradient_clip=0.05,
            l2=2e-4,
        )
        steps = pipeline.steps_per_epoch(N, BATCH)
        model.compile(recipe.optimizer(0.1, EPOCHS * steps), metrics=["accuracy"])
        history = model.fit(
            pipeline.training_dataset(images, labels, BATCH, EPOCHS),
            epochs=EPOCHS,
            steps_per_epoch=steps,
            shuffle=False,
            verbose=0,
        ).history
    np.savez(output, *model.get_weights(), *map(np.asarray, history.values()))


def reverse_batches():
    """Reverses the samples within each batch, which changes nothing but the rounding."""
    from deepncm_tf.data import pipeline

    slices = pipeline._slices
    pipeline._slices = lambda *args: slices(*args).map(lambda rows: rows[::-1])


def start(folder, method, dtype="float64", workers=1, num_replicas=1, permute=False):
    """Starts the processes of a configuration; returns them and the chief's output."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(workers)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    strategy = "one_device" if num_replicas == 1 else "mirrored"
    processes = []
    for index in range(workers):
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
        environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
        if workers > 1:
            strategy = "multi_worker_mirrored"
            task = {"type": "worker", "index": index}
            cluster = {"worker": addresses}
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        output = folder / f"{method}-{dtype}-{workers}-{num_replicas}-{permute}-{index}.npz"
        arguments = [output, method, dtype, strategy, num_replicas, int(permute)]
        processes.append(
            subprocess.Popen(
                [sys.executable, __file__, *map(str, arguments)],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
    for process in processes:
        if process.wait():
            raise RuntimeError(f"{process.args} failed with {process.returncode}")
    name = f"{method}-{dtype}-{workers}-{num_replicas}-{permute}-0.npz"
    return list(np.load(folder / name).values())


def difference(one, other):
    """Largest difference, relative to the larger of an array's largest value and 1."""
    return max(
        np.abs(a - b).max() / max(np.abs(a).max(), 1)
        for a, b in zip(one, other, strict=True)
    )


def main():
    print(
        "| method | 2 replicas | 4 replicas | 2 workers | float32, 2 | float32, reversed |"
    )
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for method in METHODS:
            one = start(folder, method)
            single = start(folder, method, "float32")
            figures = [
                difference(one, start(folder, method, num_replicas=2)),
                difference(one, start(folder, method, num_replicas=4)),
                difference(one, start(folder, method, workers=2)),
                difference(single, start(folder, method, "float32", num_replicas=2)),
                difference(single, start(folder, method, "float32", permute=True)),
            ]
            print(f"| `{method}` | {' | '.join(f'{f:.1e}' for f in figures)} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        output, method, dtype, strategy, num_replicas, permute = sys.argv[1:]
        train(output, method, dtype, strategy, int(num_replicas), permute == "1")
