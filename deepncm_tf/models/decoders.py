# SPDX-License-Identifier: Apache-2.0
"""Decoders of segmentation: feature maps of a backbone's stages become features of pixels.

Each is a functional `keras.Model`; widths are those of mmsegmentation where 512 is given.
"""

import functools

import keras
from keras import layers

from deepncm_tf.numerics import resizing
from deepncm_tf.utils.arguments import as_positive_integer, check_choice, check_number
from official_resnet.normalization import batch_normalization

BN_MOMENTUM = 0.9
BN_EPSILON = 1e-5
RATES = (12, 24, 36)  # of DeepLabV3's dilated convolutions at an output stride of 8
POOLS = (1, 2, 3, 6)  # of UPerNet's pyramid


@keras.saving.register_keras_serializable(package="deepncm_tf")
class Resize(layers.Layer):
    """Maps in another size, by bilinear interpolation.

    Args:
        size: `(height, width)`.
        **kwargs: Those of `keras.layers.Layer`.
    """

    function = staticmethod(resizing.resize)

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = tuple(size)
        self.built = True

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.size, input_shape[-1])

    def call(self, maps):
        return type(self).function(maps, self.size)

    def get_config(self):
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable(package="deepncm_tf")
class Pool(Resize):
    """Averages of a number of parts that cover maps.

    Args:
        size: `(height, width)`, numbers of parts.
        **kwargs: Those of `keras.layers.Layer`.
    """

    function = staticmethod(resizing.pool)


def get(name, shapes, width=512, dropout=0.1, rates=RATES):
    """Builds a decoder.

    Args:
        name: `"fcn"`, two convolutions of the last maps and one of these with the maps;
            `"deeplabv3"`, convolutions of several dilations side by side, and the mean of
            the image; or `"upernet"`, a pyramid of averages, then all stages from coarse
            to fine.
        shapes: List of the shapes of the stages' maps, `(None, height, width, channels)`,
            the finest first.
        width: Int, channels of every convolution.
        dropout: Float in [0, 1), share of the channels of the result that training drops.
        rates: Ints, dilations of `"deeplabv3"` beside 1.

    Returns:
        `keras.Model` from the list of maps to features `(batch, height, width, width)`: of
        the size of the last maps, of `"upernet"` the first.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        - [Long et al., 2015](https://arxiv.org/abs/1411.4038), `"fcn"`
        - [Chen et al., 2017](https://arxiv.org/abs/1706.05587), `"deeplabv3"`
        - [Xiao et al., 2018](https://arxiv.org/abs/1807.10221), `"upernet"`
    """
    check_choice("name", name, tuple(DECODERS))
    width = as_positive_integer("width", width)
    check_number("dropout", dropout, "a number in [0, 1)", lambda x: 0 <= x < 1)
    rates = [as_positive_integer("rates", rate) for rate in rates]
    maps = [keras.Input(shape[1:]) for shape in shapes]
    build = DECODERS[name]
    if name == "deeplabv3":
        build = functools.partial(build, rates=rates)
    features = build(maps, width)
    if dropout:
        features = layers.SpatialDropout2D(dropout, data_format="channels_last")(features)
    return keras.Model(maps, features, name=name)


def auxiliary_head(shape, num_classes, width=256, dropout=0.1):
    """An FCN with one convolution, to logits of the classes.

    Args:
        shape: Shape of the maps, `(None, height, width, channels)`.
        num_classes: Int.
        width, dropout: As in `get`.

    Returns:
        `keras.Model` from maps to logits `(batch, height, width, num_classes)`.
    """
    maps = keras.Input(shape[1:])
    x = convolution(maps, width, 3)
    if dropout:
        x = layers.SpatialDropout2D(dropout, data_format="channels_last")(x)
    wide = keras.backend.result_type(keras.config.floatx(), "float32")
    logits = layers.Conv2D(
        num_classes, 1, data_format="channels_last", dtype=wide, name="logits"
    )(x)
    return keras.Model(maps, logits, name="auxiliary_head")


def convolution(x, filters, kernel_size, dilation=1):
    """A convolution, batch normalization and ReLU."""
    x = layers.Conv2D(
        filters,
        kernel_size,
        padding="same",
        data_format="channels_last",
        dilation_rate=dilation,
        use_bias=False,
    )(x)
    return layers.ReLU()(batch_normalization(BN_MOMENTUM, BN_EPSILON)(x))


def _fcn(maps, width):
    last = maps[-1]
    x = convolution(convolution(last, width, 3), width, 3)
    return convolution(layers.Concatenate()([last, x]), width, 3)


def _deeplabv3(maps, width, rates):
    last = maps[-1]
    size = last.shape[1:3]
    mean = Resize(size)(convolution(Pool((1, 1))(last), width, 1))
    parts = [mean, convolution(last, width, 1)]
    # Where a dilation passes the map's edges, only the middle of the kernel meets it.
    parts += [convolution(last, width, 3, dilation=rate) for rate in rates]
    return convolution(layers.Concatenate()(parts), width, 3)


def _upernet(maps, width):
    *finer, last = maps
    size = last.shape[1:3]
    pyramid = [Resize(size)(convolution(Pool((p, p))(last), width, 1)) for p in POOLS]
    top = convolution(layers.Concatenate()([last, *pyramid]), width, 3)
    laterals = [*(convolution(x, width, 1) for x in finer), top]
    for i in range(len(laterals) - 2, -1, -1):
        coarser = Resize(laterals[i].shape[1:3])(laterals[i + 1])
        laterals[i] = layers.Add()([laterals[i], coarser])
    size = maps[0].shape[1:3]
    parts = [Resize(size)(convolution(x, width, 3)) for x in laterals[:-1]]
    return convolution(layers.Concatenate()([*parts, Resize(size)(top)]), width, 3)


DECODERS = {"fcn": _fcn, "deeplabv3": _deeplabv3, "upernet": _upernet}
