# SPDX-License-Identifier: Apache-2.0
"""ResNets for ImageNet: 18 and 34 of plain blocks, 50, 101 and 152 of bottlenecks."""

import keras
from keras import layers

from official_resnet import recipe
from official_resnet.resnet import (
    WIDE_BLOCKS,
    WIDE_STAGES,
    Strides,
    block,
    check_version,
    convolution,
    normalizer,
)

# Blocks in the four stages.
BOTTLENECKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
DEPTHS = WIDE_BLOCKS | BOTTLENECKS
# The mean colour of ImageNet, which the official recipe takes off images of values 0..255.
CHANNEL_MEANS = (123.68, 116.78, 103.94)
STEM_STRIDE = 4  # of the first convolution and the pooling
EXPANSION = 4  # channels of a bottleneck's output to those within


def imagenet_resnet(
    depth=50,
    version=2,
    input_shape=(224, 224, 3),
    bn_momentum=recipe.BATCH_NORM_MOMENTUM,
    name=None,
    output_stride=None,
):
    """Builds the ResNet for ImageNet without its classifier.

    Batch statistics are synchronized when the model is built under a strategy with more
    than one replica.

    Args:
        depth: 18 or 34, blocks of two 3x3 convolutions; 50, 101 or 152, bottlenecks.
        version: 1 (the original, normalization after each convolution) or 2
            (pre-activation).
        input_shape: Shape of one image, `(height, width, channels)`.
        bn_momentum: Float in [0, 1), momentum of the moving batch statistics.
        name: String, name of the model.
        output_stride: Int, the largest stride of feature maps: where the network would
            stride further it is dilated instead. None for one vector of features.

    Returns:
        A functional `keras.Model` from images `(batch, height, width, channels)` to
        features `(batch, 512)`, or `(batch, 2048)` of bottlenecks; with `output_stride` to
        a list of the maps of its stages, `(batch, height / stride, width / stride, d)`.

    Raises:
        ValueError: If `depth` is not among these, `version` is not 1 or 2, or
            `output_stride` is below 4, the stride of the first stage.

    Deviations:
        A shortcut is projected where its shape changes, and in version 2, whose first
        activation it shares, at each stage's beginning. The official code strides in a
        bottleneck's 3x3 convolution, the paper in its first 1x1; here it is the 3x3.
        `keras.applications` has the same networks with biases in convolutions that a
        normalization follows, which change nothing.

    Reference:
        - [He et al., 2015](https://arxiv.org/abs/1512.03385), table 1 (version 1)
        - [He et al., 2016](https://arxiv.org/abs/1603.05027) (version 2)
    """
    if depth not in DEPTHS:
        raise ValueError(f"`depth` must be one of {tuple(DEPTHS)}. Received: depth={depth}")
    check_version(version)
    if output_stride is not None and output_stride < STEM_STRIDE:
        raise ValueError(
            f"`output_stride` must be {STEM_STRIDE} or more. "
            f"Received: output_stride={output_stride}"
        )
    normalize = normalizer(bn_momentum)
    build_block, expansion = (bottleneck, EXPANSION) if depth in BOTTLENECKS else (block, 1)

    image = keras.Input(input_shape, name="image")
    x = convolution(image, WIDE_STAGES[0][0], kernel_size=7, stride=2)
    if version == 1:
        x = normalize(x)
    x = layers.MaxPooling2D(3, 2, padding="same", data_format="channels_last")(x)
    strides = Strides(STEM_STRIDE, output_stride)
    maps = []
    for (filters, stride), blocks in zip(WIDE_STAGES, DEPTHS[depth], strict=True):
        for index in range(blocks):
            changed = stride > 1 or x.shape[-1] != filters * expansion
            project = index == 0 and (changed or version == 2)
            steps = strides.next(stride if index == 0 else 1)
            x = build_block(x, filters, *steps, project, version, normalize)
        maps.append(x)
    if version == 2:
        x = maps[-1] = normalize(x)
    name = name or f"imagenet_resnet{depth}_v{version}"
    if output_stride is not None:
        return keras.Model(image, maps, name=name)
    average = layers.GlobalAveragePooling2D(data_format="channels_last", name="features")
    return keras.Model(image, average(x), name=name)


def bottleneck(x, filters, stride, dilation, further_dilation, project, version, normalize):
    """A 1x1, a 3x3 and a 1x1 convolution and a shortcut, in the order of either version.

    Args:
        x, stride, dilation, further_dilation, project, version, normalize: As for
            `resnet.block`; the 3x3 convolution strides, and has the first dilation.
        filters: Int, channels within; the output has four times as many.

    Returns:
        Output maps, `(batch, height / stride, width / stride, 4 * filters)`.
    """
    shortcut = x
    if version == 2:
        x = normalize(x)
    if project:
        shortcut = convolution(x, EXPANSION * filters, kernel_size=1, stride=stride)
        if version == 1:
            shortcut = normalize(shortcut, relu=False)
    x = normalize(convolution(x, filters, kernel_size=1))
    x = normalize(convolution(x, filters, 3, stride, dilation))
    x = convolution(x, EXPANSION * filters, kernel_size=1)
    if version == 2:
        return layers.Add()([x, shortcut])
    x = normalize(x, relu=False)
    return layers.ReLU()(layers.Add()([x, shortcut]))
