# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0 in plain NumPy, from PyTorch's names and layouts; random weights."""

import math

import numpy as np

# (expansion, kernel, stride, input, output) of each block, written out from the paper's
# table 1 without its squeeze-excitation.
BLOCKS = [
    (1, 3, 1, 32, 16),
    (6, 3, 2, 16, 24),
    (6, 3, 1, 24, 24),
    (6, 5, 2, 24, 40),
    (6, 5, 1, 40, 40),
    (6, 3, 2, 40, 80),
    (6, 3, 1, 80, 80),
    (6, 3, 1, 80, 80),
    (6, 5, 1, 80, 112),
    (6, 5, 1, 112, 112),
    (6, 5, 1, 112, 112),
    (6, 5, 2, 112, 192),
    (6, 5, 1, 192, 192),
    (6, 5, 1, 192, 192),
    (6, 5, 1, 192, 192),
    (6, 3, 1, 192, 320),
]


def random_weights(num_classes=1000, seed=0):
    """Weights in PyTorch's layouts that keep the size of activations."""
    rng = np.random.default_rng(seed)
    weights = {}

    def kernel(name, *shape):
        scale = math.sqrt(2 / np.prod(shape[1:]))
        weights[f"{name}.weight"] = rng.normal(0, scale, shape).astype("float32")

    def statistics(name, channels):
        draws = rng.uniform(0.5, 1.5, (4, channels)).astype("float32")
        parts = ("weight", "bias", "running_mean", "running_var")
        draws[1:3] -= 1
        weights.update({f"{name}.{p}": d for p, d in zip(parts, draws, strict=True)})
        weights[f"{name}.num_batches_tracked"] = np.array(3)

    kernel("_conv_stem", 32, 3, 3, 3)
    statistics("_bn0", 32)
    for number, (expansion, size, _, inputs, outputs) in enumerate(BLOCKS):
        block, wide = f"_blocks.{number}.", expansion * inputs
        if expansion > 1:
            kernel(f"{block}_expand_conv", wide, inputs, 1, 1)
            statistics(f"{block}_bn0", wide)
        kernel(f"{block}_depthwise_conv", wide, 1, size, size)
        statistics(f"{block}_bn1", wide)
        kernel(f"{block}_project_conv", outputs, wide, 1, 1)
        statistics(f"{block}_bn2", outputs)
    kernel("_conv_head", 1280, 320, 1, 1)
    statistics("_bn1", 1280)
    kernel("_fc", num_classes, 1280)
    weights["_fc.bias"] = rng.normal(size=num_classes).astype("float32")
    return weights


def logits(weights, image):
    """Logits of one image `(height, width, 3)` of values 0..255, in float64."""
    weights = {name: array.astype("float64") for name, array in weights.items()}
    x = (image.astype("float64") - 127) / 128
    x = _relu6(_normal(_conv(x, weights["_conv_stem.weight"], 2), weights, "_bn0"))
    for number, (expansion, _, stride, inputs, outputs) in enumerate(BLOCKS):
        block, before = f"_blocks.{number}.", x
        if expansion > 1:
            x = _conv(x, weights[f"{block}_expand_conv.weight"])
            x = _relu6(_normal(x, weights, f"{block}_bn0"))
        x = _depthwise(x, weights[f"{block}_depthwise_conv.weight"], stride)
        x = _relu6(_normal(x, weights, f"{block}_bn1"))
        x = _conv(x, weights[f"{block}_project_conv.weight"])
        x = _normal(x, weights, f"{block}_bn2")
        if stride == 1 and inputs == outputs:
            x = x + before
    x = _relu6(_normal(_conv(x, weights["_conv_head.weight"]), weights, "_bn1"))
    return weights["_fc.weight"] @ x.mean(axis=(0, 1)) + weights["_fc.bias"]


def _relu6(x):
    return np.clip(x, 0, 6)


def _normal(x, weights, name):
    deviation = np.sqrt(weights[f"{name}.running_var"] + 1e-3)
    x = (x - weights[f"{name}.running_mean"]) / deviation
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _windows(x, size, stride):
    """For each place in the kernel the values that it meets, padded as TensorFlow pads."""
    lengths = [-(-n // stride) for n in x.shape[:2]]
    padding = [
        max((m - 1) * stride + size - n, 0) for m, n in zip(lengths, x.shape, strict=False)
    ]
    x = np.pad(x, [*((p // 2, p - p // 2) for p in padding), (0, 0)])
    for i in range(size):
        for j in range(size):
            ends = [k + (m - 1) * stride + 1 for k, m in zip((i, j), lengths, strict=True)]
            yield i, j, x[i : ends[0] : stride, j : ends[1] : stride]


def _conv(x, kernel, stride=1):
    parts = _windows(x, kernel.shape[-1], stride)
    return sum(values @ kernel[:, :, i, j].T for i, j, values in parts)


def _depthwise(x, kernel, stride):
    parts = _windows(x, kernel.shape[-1], stride)
    return sum(values * kernel[:, 0, i, j] for i, j, values in parts)
