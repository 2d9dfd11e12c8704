# SPDX-License-Identifier: Apache-2.0
"""ResNets for 32x32 images: 6n + 2, as in the official TensorFlow models, and ResNet-18."""

import keras
from keras import layers

from official_resnet import recipe
from official_resnet.normalization import batch_normalization

# Stages: (filters, stride of the first block).
STAGES = ((16, 1), (32, 2), (64, 2))
WIDE_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
# Blocks in the stages of ImageNet's networks, here with the stem of CIFAR's.
WIDE_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
VERSIONS = (1, 2)


@keras.saving.register_keras_serializable(package="official_resnet")
class Conv2D(layers.Conv2D):
    """Keras's `Conv2D`, under the name that it has in saved models."""


def cifar_resnet(
    depth=32,
    version=2,
    input_shape=(32, 32, 3),
    bn_momentum=recipe.BATCH_NORM_MOMENTUM,
    name=None,
    output_stride=None,
):
    """Builds the CIFAR ResNet without its classifier.

    Batch statistics are synchronized when the model is built under a strategy with more
    than one replica.

    Args:
        depth: Int, 6n + 2 with n >= 1 blocks in each of the three stages: 8, 14, 20, 32...;
            or 18 or 34 for the wide networks of four stages, of which version 1 has no
            projection in the first stage, as in torchvision.
        version: 1 (the original, normalization after each convolution) or 2
            (pre-activation).
        input_shape: Shape of one image, `(height, width, channels)`.
        bn_momentum: Float in [0, 1), momentum of the moving batch statistics.
        name: String, name of the model.
        output_stride: Int, the largest stride of feature maps: where the network would
            stride further it is dilated instead. None for one vector of features.

    Returns:
        A functional `keras.Model` from images `(batch, height, width, channels)` to
        features `(batch, 64)`, or `(batch, 512)` of the wide ones; with `output_stride` to
        a list of the maps of its stages, `(batch, height / stride, width / stride, d)`.

    Raises:
        ValueError: If `depth` is not among these or `version` is not 1 or 2.

    Reference:
        - [He et al., 2015](https://arxiv.org/abs/1512.03385), section 4.2 (version 1)
        - [He et al., 2016](https://arxiv.org/abs/1603.05027) (version 2)
    """
    stages = stages_of(depth)
    check_version(version)
    normalize = normalizer(bn_momentum)
    image = keras.Input(input_shape, name="image")
    x = convolution(image, filters=stages[0][0], kernel_size=3)
    if depth in WIDE_BLOCKS and version == 1:
        x = normalize(x)
    strides = Strides(1, output_stride)
    maps = []
    for filters, stride, blocks in stages:
        for index in range(blocks):
            project = index == 0
            if depth in WIDE_BLOCKS and version == 1:
                project = project and stride > 1
            steps = strides.next(stride if index == 0 else 1)
            x = block(x, filters, *steps, project, version, normalize)
        maps.append(x)
    if depth not in WIDE_BLOCKS or version == 2:
        x = maps[-1] = normalize(x)
    name = name or f"resnet{depth}_v{version}"
    if output_stride is not None:
        return keras.Model(image, maps, name=name)
    average = layers.GlobalAveragePooling2D(data_format="channels_last", name="features")
    return keras.Model(image, average(x), name=name)


class Strides:
    """Where a network of feature maps strides, and where it is dilated instead.

    Args:
        stride: Int, that of the maps so far, in pixels of the image.
        output_stride: Int >= 1, the largest there may be, or None for any.

    Reference:
        - [Chen et al., 2017](https://arxiv.org/abs/1706.05587), section 3.1
    """

    def __init__(self, stride, output_stride):
        if output_stride is not None and output_stride < 1:
            raise ValueError(
                "`output_stride` must be an int >= 1 or None. "
                f"Received: output_stride={output_stride}"
            )
        self.stride, self.output_stride, self.dilation = stride, output_stride, 1

    def next(self, stride):
        """Stride, first and further dilation of a block that would have a stride."""
        before = self.dilation
        if self.output_stride is None or self.stride * stride <= self.output_stride:
            self.stride *= stride
            return stride, before, before
        self.dilation *= stride
        return 1, before, self.dilation


def check_version(version):
    """Raises a ValueError unless there is such a version."""
    if version not in VERSIONS:
        raise ValueError(f"`version` must be 1 or 2. Received: version={version}")


def normalizer(bn_momentum):
    """The function `normalize(x, relu=True)` of a network, from maps to normalized maps."""

    def normalize(x, relu=True):
        x = batch_normalization(bn_momentum, recipe.BATCH_NORM_EPSILON)(x)
        return layers.ReLU()(x) if relu else x

    return normalize


def stages_of(depth):
    """Stages of a depth: a list of (filters, stride of the first block, blocks).

    Raises:
        ValueError: If there is no such depth.
    """
    if depth in WIDE_BLOCKS:
        pairs = zip(WIDE_STAGES, WIDE_BLOCKS[depth], strict=True)
        return [(*stage, blocks) for stage, blocks in pairs]
    if depth < 8 or depth % 6 != 2:
        raise ValueError(
            "`depth` must be 6n + 2 with n >= 1, for example 8, 20, 32 or 56, or 18 or 34. "
            f"Received: depth={depth}"
        )
    return [(*stage, (depth - 2) // 6) for stage in STAGES]


def block(x, filters, stride, dilation, further_dilation, project, version, normalize):
    """Two 3x3 convolutions and a shortcut, in the order of either version.

    Args:
        x: Input maps, `(batch, height, width, channels)`.
        filters: Int, channels of the output.
        stride: Int, stride of the first convolution and of the projection.
        dilation, further_dilation: Ints, of the first and of the second convolution.
        project: Bool, whether the shortcut is a 1x1 convolution (the first block of
            every stage) or the identity.
        version: 1 or 2.
        normalize: Function from maps to normalized maps, `normalize(x, relu=True)`.

    Returns:
        Output maps, `(batch, height / stride, width / stride, filters)`.
    """
    shortcut = x
    if version == 2:
        x = normalize(x)
        if project:
            shortcut = convolution(x, filters, kernel_size=1, stride=stride)
        x = normalize(convolution(x, filters, 3, stride, dilation))
        x = convolution(x, filters, 3, dilation=further_dilation)
        return layers.Add()([x, shortcut])

    if project:
        shortcut = convolution(x, filters, kernel_size=1, stride=stride)
        shortcut = normalize(shortcut, relu=False)
    x = normalize(convolution(x, filters, 3, stride, dilation))
    x = normalize(convolution(x, filters, 3, dilation=further_dilation), relu=False)
    return layers.ReLU()(layers.Add()([x, shortcut]))


def convolution(x, filters, kernel_size, stride=1, dilation=1):
    """Convolution without bias. Where it strides, padding depends on the kernel alone."""
    if stride > 1 and kernel_size > 1:
        # SAME would pad 0+1 at even sizes; the official code pads 1+1, then VALID.
        x = layers.ZeroPadding2D((kernel_size - 1) // 2, data_format="channels_last")(x)
    return Conv2D(
        filters,
        kernel_size,
        strides=stride,
        padding="same" if stride == 1 else "valid",
        data_format="channels_last",
        dilation_rate=dilation if stride == 1 else 1,
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(),
    )(x)
