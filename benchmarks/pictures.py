# SPDX-License-Identifier: Apache-2.0
"""Pictures per second at 224 px: JPEG files decoded, cropped, resized and mirrored."""

import os
import pathlib
import statistics
import tempfile

from benchmarks import timing
from benchmarks.table import Row

COUNT, BATCH_SIZE, SIZE = 512, 32, 224
SHAPE = (375, 500)  # height and width of the files, the usual ones of ImageNet


def compare(rounds):
    """Rows of the table: beside a plain tf.data pipeline, and PyTorch's DataLoader."""
    threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pictures(pathlib.Path(folder), COUNT)
        sides = {
            "ours": timing.Side(read, paths),
            "tf.data": timing.Side(read_by_tensorflow, paths),
            "DataLoader": timing.Side(read_by_torch, paths, threads, daemon=False),
        }
        times = timing.in_turn(sides, rounds)
    rates = {
        name: f"{COUNT / statistics.median(values):,.0f} images/s"
        for name, values in times.items()
    }
    item = "JPEG files as batches of 224 px, `--augmentation=imagenet`"
    return [
        Row(
            item,
            rates["ours"],
            f"{name} {rates[name]}",
            timing.ratio(times[name], times["ours"]),
            ">= 1",
        )
        for name in ("tf.data", "DataLoader")
    ]


def write_pictures(folder, count):
    """JPEG files of parts of photographs.

    Args:
        folder: Path.
        count: Int.

    Returns:
        List of strings, their paths.
    """
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng, paths = np.random.default_rng(0), []
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        width = int(rng.integers(SHAPE[1] // 2, photograph.width))
        height = min(width * SHAPE[0] // SHAPE[1], photograph.height)
        left = int(rng.integers(photograph.width - width + 1))
        top = int(rng.integers(photograph.height - height + 1))
        part = photograph.resize(SHAPE[::-1], box=(left, top, left + width, top + height))
        paths.append(str(folder / f"{number}.jpg"))
        part.save(paths[-1], quality=90)
    return paths


def read(turns, paths):
    """The pipeline of a run; in each turn all files from first to last."""
    import numpy as np

    from deepncm_tf.data import pipeline
    from deepncm_tf.data.image_sources import ImageFiles

    dataset = pipeline.training_dataset(
        ImageFiles(paths, SIZE),
        np.zeros(len(paths), "int32"),
        BATCH_SIZE,
        epochs=1,
        augmentation="imagenet",
        scaling="pixels",
    )
    for _ in turns:
        assert sum(len(labels) for _, labels in dataset) == len(paths)


def read_by_tensorflow(turns, paths):
    """A plain pipeline of TensorFlow's operations, as its guides have it."""
    import tensorflow as tf

    whole = tf.constant([[[0.0, 0.0, 1.0, 1.0]]])

    def load(path, label):
        data = tf.io.read_file(path)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(data),
            whole,
            min_object_covered=0.1,
            aspect_ratio_range=(0.75, 1.33),
            area_range=(0.05, 1.0),
            max_attempts=100,
        )
        window = tf.concat([begin[:2], size[:2]], axis=0)
        image = tf.image.decode_and_crop_jpeg(data, window, channels=3)
        image = tf.image.random_flip_left_right(tf.image.resize(image, (SIZE, SIZE)))
        return tf.ensure_shape(image, (SIZE, SIZE, 3)), label

    labels = tf.zeros(len(paths), tf.int32)
    dataset = (
        tf.data.Dataset.from_tensor_slices((paths, labels))
        .shuffle(len(paths))
        .map(load, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(BATCH_SIZE)
        .prefetch(tf.data.AUTOTUNE)
    )
    for _ in turns:
        assert sum(len(labels) for _, labels in dataset) == len(paths)


def read_by_torch(turns, paths, workers):
    """PyTorch's DataLoader with Pillow, and a worker for each core."""
    from torch.utils.data import DataLoader

    loader = DataLoader(
        TorchPictures(paths),
        BATCH_SIZE,
        shuffle=True,
        num_workers=workers,
        persistent_workers=True,
    )
    for _ in turns:
        assert sum(len(labels) for _, labels in loader) == len(paths)


class TorchPictures:
    """A map-style dataset: the same crops, by the same function.

    Args:
        paths: List of paths.
    """

    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, row):
        import numpy as np
        import torch
        from PIL import Image

        from deepncm_tf.data import distorted_crops

        key = int(torch.randint(2**31 - 1, ()))
        with Image.open(self.paths[row]) as image:
            box = distorted_crops.draw_box(*image.size, key)
            image = image.convert("RGB").resize((SIZE, SIZE), Image.BILINEAR, box=box)
        if key % 2:
            image = image.transpose(Image.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return pixels.float(), 0
