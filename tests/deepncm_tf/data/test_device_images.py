# SPDX-License-Identifier: Apache-2.0
"""Batches that are made on the device are those that the host would have sent."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from same_run import assert_same_run
from small_runs import config, use_few_digits, use_small_network

from deepncm_tf.data import pipeline
from deepncm_tf.data.device_images import DeviceImages
from deepncm_tf.data.image_sources import ResizedImages
from deepncm_tf.runs import training
from deepncm_tf.utils.errors import RunError


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("augmentation", ["standard", "reflect", "snca"])
@pytest.mark.parametrize("scaling", ["standardized", "pixels"])
def test_the_same_images(augmentation, scaling, jit_compile):
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(21, 16, 16, 3)).astype("uint8")
    labels = np.arange(21, dtype="int32")
    values = {"augmentation": augmentation, "scaling": scaling}
    host = pipeline.training_dataset(images, labels, 8, 2, **values)
    device = pipeline.training_dataset(images, labels, 8, 2, on_device=True, **values)
    make_images = tf.function(DeviceImages(images, **values), jit_compile=jit_compile)
    count = 0
    for (x, y), (drawn, y_device) in zip(host, device, strict=True):
        found = make_images(drawn)
        # XLA rounds the places of SNCA's crops otherwise.
        atol = 1e-2 if jit_compile and augmentation == "snca" else 1e-5
        np.testing.assert_allclose(found["image"], x["image"], rtol=1e-6, atol=atol)
        np.testing.assert_array_equal(found["index"], x["index"])
        np.testing.assert_array_equal(y_device, y)
        count += 1
    assert count == 6


@pytest.mark.parametrize("middle", [0.5, 1.0])
def test_images_of_another_size_stay_bytes(middle):
    images = np.random.default_rng(0).integers(256, size=(3, 16, 16, 3)).astype("uint8")
    source = ResizedImages(images, 12, middle)
    kept = DeviceImages(source).images
    assert kept.dtype == "uint8"
    np.testing.assert_array_equal(kept, source[:])


@pytest.mark.bad_input
def test_other_backends(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    message = "--device_dataset needs Keras's TensorFlow .*Received: KERAS_BACKEND='jax'"
    with pytest.raises(RunError, match=message):
        training.run(config(tmp_path / "run", device_dataset=True))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"ncm": "nca", "accumulate_steps": 2}, marks=pytest.mark.slow),
        pytest.param(
            {"distribution_strategy": "mirrored", "num_devices": 2},
            marks=pytest.mark.thorough,
        ),
    ],
    ids=str,
)
def test_the_same_run(tmp_path, monkeypatch, values):
    use_few_digits(monkeypatch)
    use_small_network(monkeypatch)
    values = {"train_epochs": 2, **values}
    training.run(config(tmp_path / "host", **values))
    training.run(config(tmp_path / "device", device_dataset=True, **values))
    assert_same_run(tmp_path / "host", tmp_path / "device")
