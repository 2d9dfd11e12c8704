# SPDX-License-Identifier: Apache-2.0
"""ResNets for ImageNet: their counts are those of Keras's own and of torchvision."""

import keras
import numpy as np
import pytest
from helpers import to_numpy

from official_resnet import imagenet, imagenet_resnet

SHAPE = (64, 64, 3)  # the counts do not depend on it
# torchvision's parameters without the classifier's 512 * 1000 + 1000 or 2048 * 1000 + 1000.
TORCHVISION = {
    18: 11_689_512 - 513_000,
    34: 21_797_672 - 513_000,
    50: 25_557_032 - 2_049_000,
    101: 44_549_160 - 2_049_000,
}
SLOW = pytest.mark.slow


def biases(model):
    """Biases of the convolutions of one of Keras's networks: how many numbers."""
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    return sum(x.filters for x in convolutions if x.use_bias)


@pytest.mark.parametrize("depth", [50, *(pytest.param(x, marks=SLOW) for x in (101, 152))])
@pytest.mark.parametrize("version", [1, 2])
def test_keras_has_the_same_and_biases(depth, version):
    name = f"ResNet{depth}" + ("V2" if version == 2 else "")
    build = getattr(keras.applications, name)
    keras_model = build(include_top=False, weights=None, input_shape=SHAPE)
    model = imagenet_resnet(depth, version, SHAPE)
    assert model.count_params() == keras_model.count_params() - biases(keras_model)
    # Version 1 has a bias in every convolution there; version 2 in the first, in the
    # shortcuts' and in the last of each bottleneck.
    kernels = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    assert len(kernels) == depth - 1 + 4
    expected = sum(x.filters for x in kernels)
    if version == 2:
        widths = (256, 512, 1024, 2048)
        blocks = imagenet.BOTTLENECKS[depth]
        expected = 64 + sum(n * (b + 1) for n, b in zip(widths, blocks, strict=True))
    assert biases(keras_model) == expected
    assert model.output_shape == (None, 2048)


@pytest.mark.parametrize("depth", [18, 34, 50, pytest.param(101, marks=SLOW)])
def test_torchvision_has_the_same_of_version_1(depth):
    model = imagenet_resnet(depth, 1, SHAPE)
    found = sum(np.prod(variable.shape) for variable in model.trainable_variables)
    assert found == TORCHVISION[depth]


@pytest.mark.parametrize("depth", [18, 34])
def test_version_2_projects_one_shortcut_more(depth):
    def kernels(model):
        return sum(np.prod(x.shape) for x in model.variables if x.name == "kernel")

    first, second = (imagenet_resnet(depth, version, SHAPE) for version in (1, 2))
    assert kernels(second) - kernels(first) == 64 * 64
    assert second.output_shape == (None, 512)


@pytest.mark.parametrize("version", [1, 2])
def test_a_bottleneck_strides_in_its_3x3_convolution(version):
    model = imagenet_resnet(50, version, (224, 224, 3))
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    strides = [x.kernel_size for x in convolutions if x.strides == (2, 2)]
    assert strides.count((7, 7)) == 1
    assert strides.count((3, 3)) == 3
    assert strides.count((1, 1)) == 3  # the shortcuts'
    maps = [x.output.shape[1] for x in model.layers if isinstance(x, keras.layers.Add)]
    assert maps == [56] * 3 + [28] * 4 + [14] * 6 + [7] * 3


@pytest.mark.parametrize(
    ("depth", "version"),
    [
        (18, 1),
        pytest.param(18, 2, marks=pytest.mark.thorough),
        pytest.param(50, 1, marks=pytest.mark.thorough),
        (50, 2),
    ],
)
def test_features(depth, version):
    model = imagenet_resnet(depth, version, SHAPE)
    images = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype("float32")
    features = to_numpy(model(images))
    assert np.isfinite(features).all()
    assert (features >= 0).all()  # after a ReLU
    assert (features > 0).any()
    maps = model.layers[-1].input
    before = to_numpy(keras.Model(model.input, maps)(images))
    np.testing.assert_allclose(features, before.mean(axis=(1, 2)), rtol=1e-4, atol=1e-6)


def test_save_and_load(tmp_path):
    model = imagenet_resnet(18, 2, SHAPE)
    images = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype("float32")
    model.save(tmp_path / "backbone.keras")
    loaded = keras.models.load_model(tmp_path / "backbone.keras")
    np.testing.assert_array_equal(to_numpy(loaded(images)), to_numpy(model(images)))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "received"), [({"depth": 20}, "depth=20"), ({"version": 3}, "version=3")]
)
def test_bad_arguments(arguments, received):
    with pytest.raises(ValueError, match=f"Received: {received}"):
        imagenet_resnet(**arguments)
