# SPDX-License-Identifier: Apache-2.0
"""Dilated networks: at every other place what the network that strides has there."""

import keras
import numpy as np
import pytest

from deepncm_tf.backbones.efficientnet_lite import efficientnet_lite0
from official_resnet import cifar_resnet, imagenet_resnet


def cifar(**kwargs):
    return cifar_resnet(8, input_shape=(16, 24, 3), **kwargs)


def imagenet(**kwargs):
    return imagenet_resnet(18, input_shape=(64, 96, 3), **kwargs)


def bottlenecks(**kwargs):
    return imagenet_resnet(50, version=1, input_shape=(64, 96, 3), **kwargs)


def lite(**kwargs):
    return efficientnet_lite0((64, 96, 3), **kwargs)


def maps(build, output_stride, weights=None):
    model = build(output_stride=output_stride)
    if weights is not None:
        model.set_weights(weights)
    images = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:]))
    return model.get_weights(), model.predict_on_batch(images.astype("float32"))


@pytest.mark.parametrize(
    ("build", "coarse", "first"),
    [
        (cifar, 4, 0),
        pytest.param(imagenet, 32, 0, marks=pytest.mark.slow),
        pytest.param(bottlenecks, 32, 0, marks=pytest.mark.slow),
        (lite, 32, 1),  # TensorFlow pads at the end first
    ],
)
def test_dilation_fills_in_between(build, coarse, first):
    weights, strided = maps(build, coarse)
    _, dilated = maps(build, coarse // 2, weights)
    assert len(strided) == len(dilated)
    for a, b in zip(strided[:-1], dilated[:-1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert dilated[-1].shape[1:3] == tuple(2 * size for size in strided[-1].shape[1:3])
    np.testing.assert_allclose(
        dilated[-1][:, first::2, first::2], strided[-1], rtol=1e-3, atol=1e-4
    )


def test_without_it_the_maps_are_averaged():
    weights, strided = maps(cifar, 4)
    model = cifar()
    model.set_weights(weights)
    images = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:]))
    features = model.predict_on_batch(images.astype("float32"))
    np.testing.assert_allclose(
        features, strided[-1].mean(axis=(1, 2)), rtol=1e-4, atol=1e-6
    )
    assert isinstance(model, keras.Model)


@pytest.mark.bad_input
def test_bad_output_strides():
    with pytest.raises(ValueError, match="`output_stride` must be an int >= 1 or None"):
        cifar(output_stride=0)
    with pytest.raises(ValueError, match="`output_stride` must be 4 or more"):
        imagenet(output_stride=2)
