# SPDX-License-Identifier: Apache-2.0
"""Networks of other packages, from images of values 0..255 to features."""

import inspect

import keras
from keras import layers

from deepncm_tf.backbones.scaling import ColourMap, colour_map
from deepncm_tf.utils.errors import MissingExtraError, UserError, one_line
from official_resnet.imagenet import CHANNEL_MEANS, imagenet_resnet

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def official_imagenet_resnet(depth, input_shape, **kwargs):
    """`imagenet_resnet` on images less the mean colour of ImageNet, as in its recipe."""
    network = imagenet_resnet(depth, input_shape=input_shape, **kwargs)
    means = [-mean for mean in CHANNEL_MEANS]
    scaling = ColourMap(IDENTITY, means, dtype="float32", name="scaling")
    return _scaled(network, scaling, input_shape)


def keras_application(name, input_shape, pretrained=False, **kwargs):
    """A network of `keras.applications` with its own preprocessing.

    Args:
        name: String, its name there, such as `"MobileNetV2"`.
        input_shape: `(height, width, 3)`.
        pretrained: Bool, whether to download its weights on ImageNet.
        **kwargs: Those of its function there.

    Raises:
        ValueError: If there is no such network, or it cannot take such images, as where
            Keras's image data format is channels_first.
        UserError: If the weights cannot be downloaded.
    """
    build = getattr(keras.applications, name, None)
    if not name[:1].isupper() or not callable(build):
        names = [n for n in dir(keras.applications) if n[:1].isupper()]
        raise ValueError(
            "`name` must be keras: and a network of keras.applications. Received: "
            f"name='keras:{name}'; there are {', '.join(names)}"
        )
    _check_data_format(f"keras:{name}")
    weights = "imagenet" if pretrained else None
    try:
        network = build(
            include_top=False,
            weights=weights,
            input_shape=input_shape,
            pooling="avg",
            **kwargs,
        )
    except ValueError:
        raise
    except Exception as error:  # Keras raises a plain one where it cannot download
        raise UserError(
            f"The pretrained weights of keras:{name} cannot be had ({one_line(error)}). "
            "Download its file without top on a machine with a network, and give its path."
        ) from error
    preprocess = inspect.getmodule(build).preprocess_input
    # It may work on its argument in place.
    scaling = colour_map(lambda images: preprocess(images.copy()))
    return _scaled(network, scaling, input_shape)


def hub_backbone(preset, input_shape, pretrained=False, **kwargs):
    """An image backbone of KerasHub with its own preprocessing, its maps averaged.

    Args:
        preset: String, as for `keras_hub.models.Backbone.from_preset`.
        input_shape: `(height, width, 3)`.
        pretrained: Bool, whether to load the preset's weights.
        **kwargs: Those of `from_preset`.

    Raises:
        MissingExtraError: If KerasHub is not installed.
        ValueError: If it is no backbone for such images, or Keras's image data format is
            channels_first.
        UserError: If there is no such preset within reach.
    """
    _check_data_format(f"hub:{preset}")
    try:
        import keras_hub
    except ImportError as error:
        raise MissingExtraError("hub", f"--backbone=hub:{preset}", error) from error
    try:
        network = keras_hub.models.Backbone.from_preset(
            preset, load_weights=pretrained, **kwargs
        )
    except Exception as error:  # what its several sources raise
        raise UserError(f"hub:{preset} cannot be had ({one_line(error)})") from error
    if len(network.inputs) != 1 or len(network.inputs[0].shape) != 4:
        raise ValueError(
            f"`name` must be a preset of an image backbone. Received: name='hub:{preset}', "
            f"a {type(network).__name__}"
        )
    return _scaled(network, _hub_scaling(preset), input_shape)


def _check_data_format(name):
    """Raises a `ValueError` where networks of other packages take channels first."""
    data_format = keras.config.image_data_format()
    if data_format != "channels_last":
        raise ValueError(
            "keras.config.image_data_format() must be 'channels_last' for networks of "
            f"other packages, which follow it. Received: {data_format!r}, and {name}"
        )


def _hub_scaling(preset):
    """The scaling of a preset's images; None for one without."""
    import keras_hub

    try:
        converter = keras_hub.layers.ImageConverter.from_preset(preset)
    except FileNotFoundError:
        return None
    except Exception as error:  # as above
        raise UserError(f"hub:{preset} cannot be had ({one_line(error)})") from error
    return colour_map(converter)


def _scaled(network, scaling, input_shape):
    """A network on scaled images; maps or tokens are averaged, those of stages are not."""
    image = keras.Input(input_shape, name="image")
    features = network(image if scaling is None else scaling(image))
    if isinstance(features, list):
        return keras.Model(image, features, name=network.name)
    options = {"data_format": "channels_last", "name": "features"}
    if len(features.shape) == 4:
        features = layers.GlobalAveragePooling2D(**options)(features)
    elif len(features.shape) == 3:
        features = layers.GlobalAveragePooling1D(**options)(features)
    return keras.Model(image, features, name=network.name)
