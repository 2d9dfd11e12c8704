# SPDX-License-Identifier: Apache-2.0
"""The CIFAR ResNet (version 2), its recipe and its augmentation in plain PyTorch."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

BATCH_SIZE = 128
PADDING = 4


class Block(nn.Module):
    """Two 3x3 convolutions with pre-activation, and a shortcut."""

    def __init__(self, channels, filters, stride, project):
        super().__init__()
        self.norm1, self.norm2 = normalization(channels), normalization(filters)
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.project = (
            nn.Conv2d(channels, filters, 1, stride, bias=False) if project else None
        )

    def forward(self, x):
        y = functional.relu(self.norm1(x), inplace=True)
        shortcut = x if self.project is None else self.project(y)
        y = functional.relu(self.norm2(self.conv1(y)), inplace=True)
        return self.conv2(y) + shortcut


def normalization(channels):
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.003)


def resnet(depth, num_classes=10):
    """The network of `official_resnet.cifar_resnet(depth)` and a linear classifier."""
    layers, channels = [nn.Conv2d(3, 16, 3, 1, 1, bias=False)], 16
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        for index in range((depth - 2) // 6):
            first = index == 0
            layers.append(Block(channels, filters, stride if first else 1, first))
            channels = filters
    layers += [normalization(64), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, num_classes))


def augment(images):
    """Pads, crops, mirrors and standardizes a batch of uint8 `(n, 3, 32, 32)` images."""
    count, height = len(images), images.shape[2]
    padded = functional.pad(images, [PADDING] * 4)
    top, left = torch.randint(2 * PADDING + 1, (2, count, 1))
    rows = top + torch.arange(height)
    columns = torch.arange(height)
    columns = torch.where(torch.rand(count, 1) < 0.5, height - 1 - columns, columns) + left
    first = torch.arange(count)[:, None, None]
    cropped = padded.permute(0, 2, 3, 1)[first, rows[:, :, None], columns[:, None]]
    x = cropped.float().flatten(1)
    x = x - x.mean(1, keepdim=True)
    x = x / x.std(1, correction=0, keepdim=True).clamp_min(x.shape[1] ** -0.5)
    return x.view(cropped.shape).permute(0, 3, 1, 2)  # channels last


def train(turns, depth, steps, compiled, num_threads):
    """Trains some steps in each turn."""
    torch.set_num_threads(num_threads)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(256, size=(50_000, 3, 32, 32), dtype="uint8"))
    labels = torch.from_numpy(rng.integers(10, size=50_000))
    model = resnet(depth).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=2e-4)
    forward = torch.compile(model) if compiled else model
    parameters = list(model.parameters())
    order, position = torch.randperm(len(labels)), 0
    for _ in turns:
        for _ in range(steps):
            if position + BATCH_SIZE > len(order):
                order, position = torch.randperm(len(labels)), 0
            rows = order[position : position + BATCH_SIZE]
            position += BATCH_SIZE
            loss = functional.cross_entropy(forward(augment(images[rows])), labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_value_(parameters, 1.0)
            optimizer.step()


def convolve(turns, cases, batch_size, calls, num_threads):
    """The next of `convolutions.convolve`'s cases in each turn."""
    torch.set_num_threads(num_threads)

    def tensor(*shape):
        return torch.randn(shape).to(memory_format=torch.channels_last)

    def call(size, channels, filters, kernel, stride, kind):
        x = tensor(batch_size, channels, size, size)
        y = tensor(batch_size, filters, size // stride, size // stride)
        w = tensor(filters, channels, kernel, kernel)
        padding = kernel // 2
        if kind == "forward":
            return lambda: functional.conv2d(x, w, None, stride, padding)
        wanted = [kind == "input's gradient", kind == "filter's gradient", False]
        geometry = [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1
        return lambda: torch.ops.aten.convolution_backward(y, x, w, None, *geometry, wanted)

    functions = [call(*case) for case in cases]
    for number, _ in enumerate(turns):
        for _ in range(calls):
            functions[number % len(functions)]()
