# SPDX-License-Identifier: Apache-2.0
"""The flags of segmentation alone."""

import math

from deepncm_tf import backbones
from deepncm_tf.data.segmentation_sets import as_shape
from deepncm_tf.flags.flag import Flag, FlagError, choice, integer

TASK = "segmentation"
DECODERS = ("fcn", "deeplabv3", "upernet")
PAPER_STRIDE = 8  # for which the rates of DeepLabV3's paper are
PAPER_RATES = (12, 24, 36)


def is_shape(text):
    try:
        return as_shape(text) is not None
    except ValueError:
        return False


def canonical_shape(text):
    return "x".join(map(str, as_shape(text)))


def as_rates(text):
    """The integers of `"12,24,36"`; raises a ValueError where they are not 1 to 255."""
    rates = [int(part) for part in str.split(text, ",")]
    if not all(1 <= rate <= 255 for rate in rates):
        raise ValueError(f"`text` must be integers from 1 to 255. Received: {text}")
    return rates


def is_rates(text):
    try:
        return as_rates(text) is not None
    except ValueError:
        return False


def rates(config):
    """Dilations of a resolved config: those of the paper have the reach that they had."""
    if config["decoder_rates"] is not None:
        return as_rates(config["decoder_rates"])
    return [rate * PAPER_STRIDE // config["output_stride"] for rate in PAPER_RATES]


def weight(name, default, help, **kwargs):
    wanted = "a number >= 0"
    return Flag(
        name, float, default, help, wanted, lambda x: 0 <= x < math.inf, task=TASK, **kwargs
    )


SEGMENTATION_FLAGS = (
    choice(
        "decoder",
        "deeplabv3",
        DECODERS,
        "From feature maps to features of pixels.",
        task=TASK,
    ),
    integer(
        "decoder_width",
        None,
        "Channels of the decoder's convolutions; by default 128, for shapes 32. The "
        "published ones have 512.",
        task=TASK,
    ),
    Flag(
        "decoder_rates",
        str,
        None,
        "Dilations of --decoder=deeplabv3 beside 1; by default 12,24,36 at an output "
        "stride of 8, 6,12,18 at 16.",
        "integers from 1 to 255, separated by commas",
        is_rates,
        canonical=lambda text: ",".join(map(str, as_rates(text))),
        task=TASK,
    ),
    Flag(
        "output_stride",
        int,
        16,
        "Pixels of the image to one of the last feature maps, 8 or 16: the backbone is "
        "dilated where it would stride further.",
        "8 or 16",
        (8, 16).__contains__,
        task=TASK,
    ),
    Flag(
        "image_shape",
        str,
        None,
        "HEIGHTxWIDTH to which images and masks are resized, and the size of crops; by "
        "default 180x240 for camvid, 512x1024 for cityscapes, 512x512 for scene_parse150, "
        "64x64 for shapes, else 256x256.",
        "HEIGHTxWIDTH, each from 8 to 4096",
        is_shape,
        canonical=canonical_shape,
        task=TASK,
    ),
    Flag(
        "dropout",
        float,
        0.1,
        "Share of the features' channels that training drops.",
        "a number in [0, 1)",
        lambda value: 0 <= value < 1,
        task=TASK,
    ),
    Flag(
        "max_scale",
        float,
        None,
        "Images are scaled by 1 / max_scale to max_scale in training, 1 for not at all; by "
        "default 2, for shapes 1.25.",
        "a number from 1 to 16",
        lambda value: 1 <= value <= 16,
        task=TASK,
    ),
    weight(
        "auxiliary_weight",
        0.0,
        "Weight of the loss of another head, on the maps before the last; 0 for none.",
    ),
    weight(
        "contrast_weight",
        0.0,
        "Weight of the loss of --ncm=dnc that tells a pixel's sub-centroid from all "
        "others; published with 0.01. Each part of --accumulate_steps is clustered by "
        "itself.",
    ),
    weight(
        "distance_weight",
        0.0,
        "Weight of the loss of --ncm=dnc that draws pixels to their sub-centroid; "
        "published with 0.001. Each part of --accumulate_steps is clustered by itself.",
    ),
    integer(
        "pixels_per_class",
        0,
        "The most pixels of a class in a batch that --ncm=dnc clusters, drawn at random; 0 "
        "for all.",
        minimum=0,
        method="dnc",
        argument="max_samples",
        convert=lambda value, config: value or None,
        task=TASK,
    ),
)


def check(config):
    """Raises a `FlagError` where flags of segmentation do not go together."""
    if config["ncm"] == "nca":
        raise FlagError(
            "--ncm must be another method than nca for segmentation: it keeps a row for "
            "each image, not for each pixel. Received: --ncm=nca"
        )
    if config.get("num_sub_centroids") == "auto":
        raise FlagError(
            "--num_sub_centroids must be an integer for segmentation. Received: "
            "--num_sub_centroids=auto"
        )
    if config.get("pixels_per_class") and config["memory_batches"]:
        raise FlagError(
            "--pixels_per_class needs --memory_batches=0. Received: "
            f"--memory_batches={config['memory_batches']}"
        )
    for name in ("contrast_weight", "distance_weight"):
        if config[name] and config["ncm"] != "dnc":
            raise FlagError(
                f"--{name} belongs to --ncm=dnc. Received: --{name}={config[name]} with "
                f"--ncm={config['ncm']}"
            )
    if not backbones.find(config["backbone"]).has_maps:
        raise FlagError(
            "--backbone must be resnet18, 34, 50, 101 or 152, resnet and another 6n + 2, "
            "or efficientnet_lite0 for segmentation, which needs their feature maps. "
            f"Received: --backbone={config['backbone']}"
        )
