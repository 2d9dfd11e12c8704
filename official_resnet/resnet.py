# SPDX-License-Identifier: Apache-2.0
"""ResNet-(6n+2) for 32x32 images, as in the official TensorFlow models."""

import keras
from keras import layers

from official_resnet import recipe
from official_resnet.normalization import BatchNormalization, _num_replicas

# The three stages: (filters, stride of the first block).
STAGES = ((16, 1), (32, 2), (64, 2))
VERSIONS = (1, 2)


@keras.saving.register_keras_serializable(package="official_resnet")
class Conv2D(layers.Conv2D):
    """Keras's `Conv2D`, also for the empty share that a replica may get of a batch.

    On CPUs, TensorFlow's oneDNN kernel gives an empty batch the shape of its input. So
    that none is empty there, replicas convolve an image of zeros too and drop the result.
    """

    def call(self, inputs):
        if not _replicas_on_cpus():
            return super().call(inputs)
        zeros = keras.ops.zeros((1, *inputs.shape[1:]), dtype=inputs.dtype)
        return super().call(keras.ops.concatenate([inputs, zeros]))[:-1]


def cifar_resnet(
    depth=32,
    version=2,
    input_shape=(32, 32, 3),
    bn_momentum=recipe.BATCH_NORM_MOMENTUM,
    name=None,
):
    """Builds the CIFAR ResNet without its classifier.

    Batch statistics are synchronized when the model is built under a strategy with more
    than one replica.

    Args:
        depth: Int, 6n + 2 with n >= 1 blocks in each of the three stages: 8, 14, 20, 32...
        version: 1 (the original, normalization after each convolution) or 2
            (pre-activation).
        input_shape: Shape of one image, `(height, width, channels)`.
        bn_momentum: Float in [0, 1), momentum of the moving batch statistics.
        name: String, name of the model.

    Returns:
        A functional `keras.Model` from images `(batch, height, width, channels)` to
        features `(batch, 64)`.

    Raises:
        ValueError: If `depth` is not 6n + 2 or `version` is not 1 or 2.

    Reference:
        - [He et al., 2015](https://arxiv.org/abs/1512.03385), section 4.2 (version 1)
        - [He et al., 2016](https://arxiv.org/abs/1603.05027) (version 2)
    """
    if depth < 8 or depth % 6 != 2:
        raise ValueError(
            "`depth` must be 6n + 2 with n >= 1, for example 8, 20, 32 or 56. "
            f"Received: depth={depth}"
        )
    if version not in VERSIONS:
        raise ValueError(f"`version` must be 1 or 2. Received: version={version}")

    def normalize(x, relu=True):
        x = BatchNormalization(
            momentum=bn_momentum,
            epsilon=recipe.BATCH_NORM_EPSILON,
            synchronized=keras.backend.backend() == "tensorflow" and _num_replicas() > 1,
        )(x)
        return layers.ReLU()(x) if relu else x

    image = keras.Input(input_shape, name="image")
    x = convolution(image, filters=STAGES[0][0], kernel_size=3)
    for filters, stride in STAGES:
        for index in range((depth - 2) // 6):
            first = index == 0
            x = block(x, filters, stride if first else 1, first, version, normalize)
    features = layers.GlobalAveragePooling2D(name="features")(normalize(x))
    return keras.Model(image, features, name=name or f"resnet{depth}_v{version}")


def block(x, filters, stride, project, version, normalize):
    """Two 3x3 convolutions and a shortcut, in the order of either version.

    Args:
        x: Input maps, `(batch, height, width, channels)`.
        filters: Int, channels of the output.
        stride: Int, stride of the first convolution and of the projection.
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
        x = normalize(convolution(x, filters, kernel_size=3, stride=stride))
        return layers.Add()([convolution(x, filters, kernel_size=3), shortcut])

    if project:
        shortcut = convolution(x, filters, kernel_size=1, stride=stride)
        shortcut = normalize(shortcut, relu=False)
    x = normalize(convolution(x, filters, kernel_size=3, stride=stride))
    x = normalize(convolution(x, filters, kernel_size=3), relu=False)
    return layers.ReLU()(layers.Add()([x, shortcut]))


def convolution(x, filters, kernel_size, stride=1):
    """Convolution without bias. Where it strides, padding depends on the kernel alone."""
    if stride > 1 and kernel_size > 1:
        # SAME would pad 0+1 at even sizes; the official code pads 1+1, then VALID.
        x = layers.ZeroPadding2D((kernel_size - 1) // 2)(x)
    return Conv2D(
        filters,
        kernel_size,
        strides=stride,
        padding="same" if stride == 1 else "valid",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(),
    )(x)


def _replicas_on_cpus():
    if keras.backend.backend() != "tensorflow" or _num_replicas() == 1:
        return False
    import tensorflow as tf

    return not tf.config.list_logical_devices("GPU")
