# SPDX-License-Identifier: Apache-2.0
"""The backbones by name: what flags know of them, and how they are built."""

import dataclasses
import functools
import os
import tempfile
from collections.abc import Callable

from deepncm_tf.utils.arguments import as_positive_integer
from deepncm_tf.utils.errors import one_line

STANDARDIZED = "standardized"  # each image to mean 0 and variance 1
PIXELS = "pixels"  # values 0..255, which the network scales itself
PRETRAINED = "pretrained"
IMAGENET_DEPTHS = (18, 34, 50, 101, 152)
WANTED = (
    "resnet18, 34, 50, 101 or 152; resnet and another 6n + 2 for CIFAR's, such as "
    "resnet20; efficientnet_lite0; keras:NAME of keras.applications; or hub:PRESET of "
    "KerasHub"
)


@dataclasses.dataclass(frozen=True)
class Backbone:
    """What is known of a backbone before it is built.

    Args:
        build: Function of the shape of an image, of `pretrained` where there are such
            weights, and of the network's own arguments; it returns a `keras.Model`.
        image_size: Int, height and width of the images that it is made for.
        takes: String, `STANDARDIZED` or `PIXELS`, what the values of images must be.
        has_pretrained: Bool, whether there are pretrained weights.
        is_resnet: Bool, whether it is one of `official_resnet`.
        has_maps: Bool, whether it can give feature maps, by an argument `output_stride`.
    """

    build: Callable
    image_size: int = 224
    takes: str = PIXELS
    has_pretrained: bool = True
    is_resnet: bool = False
    has_maps: bool = True


def find(name):
    """What is known of a backbone.

    Args:
        name: String, as for `get`.

    Returns:
        A `Backbone`.

    Raises:
        ValueError: If there is no such backbone; of what other packages have, their own
            part of the name is looked up when it is built.
    """
    kind, _, rest = name.partition(":") if isinstance(name, str) else ("", "", "")
    if rest and kind in PACKAGES:
        return Backbone(functools.partial(PACKAGES[kind], rest), has_maps=False)
    depth = kind.removeprefix("resnet") if kind.startswith("resnet") else ""
    if name == "efficientnet_lite0":
        return Backbone(_efficientnet_lite0)
    # One form of a number: neither resnet08 nor digits of other scripts.
    if depth.isdecimal() and name == f"resnet{int(depth[:4])}":
        depth = int(depth)
        if depth in IMAGENET_DEPTHS:
            build = functools.partial(_imagenet_resnet, depth)
            return Backbone(build, has_pretrained=False, is_resnet=True)
        if depth >= 8 and depth % 6 == 2:
            build = functools.partial(_cifar_resnet, depth)
            return Backbone(build, 32, STANDARDIZED, has_pretrained=False, is_resnet=True)
    raise ValueError(f"`name` must be {WANTED}. Received: name={name!r}")


def is_known(name):
    """Whether `find` knows a backbone."""
    try:
        find(name)
    except ValueError:
        return False
    return True


def get(name, input_shape=None, weights=None, **kwargs):
    """Builds a backbone.

    Args:
        name: String: `"resnet18"`, 34, 50, 101 or 152, the networks for ImageNet;
            `"resnet20"` or another 6n + 2, those for CIFAR; `"efficientnet_lite0"`;
            `"keras:NAME"`, a network of `keras.applications`; or `"hub:PRESET"`, an image
            backbone of KerasHub. `official_resnet.cifar_resnet` has the depths of CIFAR
            that have a name of ImageNet's here.
        input_shape: Shape of one image, `(height, width, 3)`; by default what the network
            is made for.
        weights: None for random ones; `"pretrained"`; or the path of a file of its
            weights: `.h5` as of `save_weights`, `.keras` of a model with this backbone,
            such as a run's, or `.pth` of PyTorch for `"efficientnet_lite0"`.
        **kwargs: The network's own arguments, such as `version` and `bn_momentum` of
            ResNets; and `output_stride` of all but those of other packages.

    Returns:
        A `keras.Model` from images `(batch, height, width, 3)` to features `(batch, d)`;
        with `output_stride` to a list of feature maps, see `cifar_resnet`.
        Images have values 0..255; for CIFAR's ResNets, each has mean 0 and variance 1.

    Raises:
        ValueError: If there is no such backbone, it cannot take such images, or the
            weights are of another one.
        UserError: If what it needs is not installed, or cannot be downloaded.

    Example:
        >>> get("resnet20", (32, 32, 3)).output_shape
        (None, 64)
    """
    backbone = find(name)
    input_shape = _check_shape(input_shape, backbone)
    if weights == PRETRAINED:
        if not backbone.has_pretrained:
            raise ValueError(
                f"`weights` must be None or a path: there are no pretrained weights of "
                f"{name}, only of efficientnet_lite0, keras:NAME and hub:PRESET. "
                f"Received: weights={weights!r}"
            )
        kwargs["pretrained"] = True
    try:
        model = backbone.build(input_shape=input_shape, **kwargs)
    except ValueError as error:
        raise ValueError(
            f"A backbone {name} cannot be built for images of {input_shape} "
            f"({one_line(error)})"
        ) from error
    if weights not in (None, PRETRAINED):
        _load(model, name, str(weights))
    return model


def _check_shape(shape, backbone):
    if shape is None:
        return (backbone.image_size, backbone.image_size, 3)
    if not isinstance(shape, (tuple, list)) or len(shape) != 3 or shape[2] != 3:
        raise ValueError(
            f"`input_shape` must be (height, width, 3). Received: input_shape={shape}"
        )
    return (*(as_positive_integer("input_shape", size) for size in shape[:2]), 3)


def _load(model, name, path):
    """Loads weights from a file; nothing that it holds is executed."""
    endings = (".h5", ".keras")
    endings += (".pth",) if name == "efficientnet_lite0" else ()
    if not path.endswith(endings):
        raise ValueError(
            f"`weights` must be None, {PRETRAINED!r}, or a path that ends in "
            f"{' or '.join(endings)}. Received: weights={path!r}"
        )
    open(path, "rb").close()  # an OSError says what is amiss
    if path.endswith(".pth"):
        from deepncm_tf.backbones.efficientnet_lite import load_torch_weights

        load_torch_weights(model, path)
        return
    if path.endswith(".keras"):
        _load_keras(model, name, path)
        return
    _load_h5(model, name, path)


def _load_keras(model, name, path):
    """Takes the weights of a saved model's backbone."""
    import keras

    try:
        saved = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises what its many layers raise
        reason = one_line(error)
        raise ValueError(
            f"`weights` must be a model with the backbone {name}. Received: {path} "
            f"({reason})"
        ) from error
    backbone = getattr(saved, "backbone", saved)
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "backbone.weights.h5")
        backbone.save_weights(weights)
        _load_h5(model, name, weights)


def _load_h5(model, name, path):
    """Of the whole, or of the network without the scaling in front of it."""
    networks = [layer for layer in model.layers if hasattr(layer, "load_weights")]
    reasons = []
    for candidate in (model, *networks):
        try:
            candidate.load_weights(path)
            return
        except Exception as error:  # h5py and Keras raise what they come upon
            reasons.append(one_line(error))
    raise ValueError(
        f"`weights` must be a file of weights of {name}. Received: {path} ({reasons[0]})"
    )


def _cifar_resnet(depth, input_shape, **kwargs):
    from official_resnet import cifar_resnet

    return cifar_resnet(depth, input_shape=input_shape, **kwargs)


def _imagenet_resnet(depth, input_shape, **kwargs):
    from deepncm_tf.backbones.networks import official_imagenet_resnet

    return official_imagenet_resnet(depth, input_shape, **kwargs)


def _efficientnet_lite0(input_shape, pretrained=False, **kwargs):
    from deepncm_tf.backbones import efficientnet_lite

    path = efficientnet_lite.pretrained_path() if pretrained else None
    model = efficientnet_lite.efficientnet_lite0(input_shape, **kwargs)
    if path is not None:
        efficientnet_lite.load_torch_weights(model, path)
    return model


def _keras_application(name, input_shape, **kwargs):
    from deepncm_tf.backbones.networks import keras_application

    return keras_application(name, input_shape, **kwargs)


def _hub_backbone(preset, input_shape, **kwargs):
    from deepncm_tf.backbones.networks import hub_backbone

    return hub_backbone(preset, input_shape, **kwargs)


PACKAGES = {"keras": _keras_application, "hub": _hub_backbone}
