# SPDX-License-Identifier: Apache-2.0
"""The sets for segmentation by name: their classes, and their runs' defaults.

Nothing here reads files.
"""

import dataclasses

from deepncm_tf.data import shapes
from deepncm_tf.data.datasets import FOLDER, TFDS

CITYSCAPES = {
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
CAMVID = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign_symbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)


@dataclasses.dataclass(frozen=True)
class SegmentationSet:
    """What is known of a set.

    Attributes:
        class_names: Tuple of strings, or None for as many classes as its masks have.
        labels: Tuple of ints, the label of each class in the masks, or None for 0, 1, ...
        void: Tuple of ints, labels of pixels without a class, besides 255.
        tfds_name: String, its name in TFDS, or None for its own.
        image_key, mask_key: Strings, names of its features in TFDS.
        test_split: String, its split for testing; None for test, or else validation.
        image_shape: `"HEIGHTxWIDTH"`, default of `--image_shape`.
        backbone: String, default of `--backbone`.
        batch_size, train_epochs, decoder_width: Ints, defaults of their flags.
        learning_rate, max_scale: Floats, defaults of their flags.
        mirrored: Bool, whether a mirrored image is one of the same kind.
    """

    class_names: tuple | None = None
    labels: tuple | None = None
    void: tuple = ()
    tfds_name: str | None = None
    image_key: str = "image"
    mask_key: str = "segmentation_mask"
    test_split: str | None = None
    image_shape: str = "256x256"
    backbone: str = "efficientnet_lite0"
    batch_size: int = 8
    train_epochs: int = 50
    decoder_width: int = 128
    learning_rate: float = 0.01
    max_scale: float = 2.0
    mirrored: bool = True


SETS = {
    "shapes": SegmentationSet(
        shapes.CLASS_NAMES,
        image_shape=f"{shapes.SIZE}x{shapes.SIZE}",
        backbone="resnet8",
        batch_size=16,
        train_epochs=24,
        decoder_width=32,
        learning_rate=0.1,  # from random weights
        max_scale=1.25,
    ),
    "camvid": SegmentationSet(CAMVID, void=(11,), image_shape="180x240"),
    "oxford_iiit_pet": SegmentationSet(("pet", "background"), labels=(1, 2), void=(3,)),
    "cityscapes": SegmentationSet(
        tuple(CITYSCAPES),
        labels=tuple(CITYSCAPES.values()),
        void=tuple(label for label in range(34) if label not in CITYSCAPES.values()),
        tfds_name="cityscapes/semantic_segmentation",
        image_key="image_left",
        mask_key="segmentation_label",
        test_split="validation",
        image_shape="512x1024",
    ),
    "scene_parse150": SegmentationSet(
        tuple(f"class {label}" for label in range(1, 151)),
        labels=tuple(range(1, 151)),
        void=(0,),
        mask_key="annotation",
        test_split="test",
        image_shape="512x512",
    ),
}
OTHERS = SegmentationSet()  # of a folder, or another set of TFDS


def find(name):
    """The `SegmentationSet` of a name; a folder or TFDS's is not looked for."""
    return SETS.get(name, OTHERS)


def is_known(name):
    """Whether it is the name of a set; a folder or TFDS's is not looked for."""
    others = (FOLDER, TFDS)
    return name in SETS or (name.startswith(others) and name not in others)


def as_shape(text):
    """`(height, width)` of `"HEIGHTxWIDTH"`.

    Raises:
        ValueError: If it is no such text, or they are not from 8 to 4096.
    """
    sizes = tuple(int(part) for part in str.split(text, "x"))
    if len(sizes) != 2 or not all(8 <= size <= 4096 for size in sizes):
        raise ValueError(f"`text` must be HEIGHTxWIDTH. Received: {text}")
    return sizes
