# SPDX-License-Identifier: Apache-2.0
"""Presets of KerasHub with few parameters, for which nothing is downloaded."""

import pytest


def small_backbone():
    """A ResNet of KerasHub with two stages; skips the test without KerasHub."""
    hub = pytest.importorskip("keras_hub")
    return hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(None, None, 3),
    )


def write_preset(folder):
    """Saves it as a preset; returns the folder as a string."""
    small_backbone().save_to_preset(str(folder))
    return str(folder)
