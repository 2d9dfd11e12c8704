# SPDX-License-Identifier: Apache-2.0
import keras
import numpy as np
import pytest

from official_resnet import BatchNormalization, cifar_resnet, recipe

# Parameters of the official features model, with moving statistics.
PARAMETERS = {
    (8, 1): 78_576,
    (20, 1): 273_904,
    (32, 1): 469_232,
    (56, 1): 859_888,
    (8, 2): 77_936,
    (20, 2): 273_264,
    (32, 2): 468_592,
    (56, 2): 859_248,
    (18, 1): 11_178_432,
    (18, 2): 11_178_944,
    (34, 1): 21_294_016,
}


@pytest.mark.parametrize(("depth", "version"), PARAMETERS)
def test_parameters(depth, version):
    model = cifar_resnet(depth, version)
    assert model.count_params() == PARAMETERS[depth, version]
    assert model.output_shape == (None, 512 if depth in (18, 34) else 64)


@pytest.mark.parametrize("version", [1, 2])
def test_layers(version):
    model = cifar_resnet(20, version)
    kinds = [type(layer).__name__ for layer in model.layers]
    # 6n + 1 convolutions and a projection in the first block of every stage.
    assert kinds.count("Conv2D") == 19 + 3
    assert kinds.count("ZeroPadding2D") == 2
    # Version 1 normalizes after each convolution but the first, and at the end.
    assert kinds.count("BatchNormalization") == (18 + 3 + 1 if version == 1 else 18 + 1)
    assert kinds[-3:] == ["BatchNormalization", "ReLU", "GlobalAveragePooling2D"]
    for layer in model.layers:
        if isinstance(layer, BatchNormalization):
            assert (layer.momentum, layer.epsilon) == (0.997, 1e-5)
        if isinstance(layer, keras.layers.Conv2D):
            assert not layer.use_bias
            assert isinstance(layer.kernel_initializer, keras.initializers.VarianceScaling)


def test_strided_convolution_pads_one_on_each_side():
    """Against the official padding in NumPy: 1+1, then VALID with stride 2."""
    model = cifar_resnet(8, 2)
    conv = next(
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
        and layer.strides == (2, 2)
        and layer.kernel_size == (3, 3)
    )
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(1, 32, 32, 16)).astype("float32")
    padding = conv.input._keras_history.operation
    output = keras.ops.convert_to_numpy(conv(padding(maps)))
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel = keras.ops.convert_to_numpy(conv.kernel)
    for row, column in [(0, 0), (15, 15), (3, 7)]:
        patch = padded[0, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        expected = np.tensordot(patch, kernel, axes=3)
        np.testing.assert_allclose(output[0, row, column], expected, rtol=1e-4, atol=1e-5)


def test_other_image_sizes():
    model = cifar_resnet(8, input_shape=(24, 40, 1))
    assert model(np.zeros((2, 24, 40, 1), "float32")).shape == (2, 64)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ({"depth": 9}, "depth=9"),
        ({"depth": 2}, "depth=2"),
        ({"version": 3}, "version=3"),
    ],
)
def test_bad_arguments(arguments, received):
    with pytest.raises(ValueError, match=f"Received: {received}"):
        cifar_resnet(**arguments)


def test_save_and_load(tmp_path):
    model = cifar_resnet(8)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    model.save(tmp_path / "backbone.keras")
    loaded = keras.models.load_model(tmp_path / "backbone.keras")
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0)
    )


def test_recipe_defaults():
    assert recipe.BATCH_SIZE == 128
    assert recipe.TRAIN_EPOCHS == 250
    assert (recipe.MOMENTUM, recipe.WEIGHT_DECAY, recipe.GRADIENT_CLIP) == (0.9, 2e-4, 1.0)


def test_wide_networks_are_those_of_torchvision_with_a_small_stem():
    model = cifar_resnet(18, version=1)
    # torchvision's ResNet-18 with a 3x3 stem has 11,173,962 parameters, 512 x 10 + 10 of
    # them in its classifier for ten classes.
    assert sum(np.prod(v.shape) for v in model.trainable_variables) == 11_173_962 - 5_130
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    assert [x.filters for x in convolutions if x.kernel_size == (1, 1)] == [128, 256, 512]
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    assert np.isfinite(keras.ops.convert_to_numpy(model(images))).all()
