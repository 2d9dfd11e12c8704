# SPDX-License-Identifier: Apache-2.0
"""Masks in picture files: gray, the value of a pixel being its label.

They are read in threads, which share Python's filters of warnings: these stay as they are.
"""

import io
import stat

import numpy as np
from PIL import Image

VOID = 255
WRONG = 254  # in a table of classes: a label that there is not


class MaskError(ValueError):
    """A mask is not what it must be, though it can be read."""


def table(labels, void=()):
    """What becomes of the values of masks.

    Args:
        labels: Sequence of ints in [0, 255], the label of each class in order.
        void: Labels of pixels without a class, besides 255.

    Returns:
        uint8 `(256,)`: the class of each value, `VOID`, or `WRONG`.
    """
    classes = np.full(256, WRONG, "uint8")
    classes[[VOID, *void]] = VOID
    classes[list(labels)] = np.arange(len(labels))
    return classes


def read(path, size, classes=None, image_size=None, data=None):
    """A mask in the size of the images.

    Args:
        path: The file's path.
        size: `(height, width)` to resize to, by the nearest pixel; None for its own.
        classes: As from `table`, or None for the values as they are.
        image_size: `(height, width)` that the mask must have in its file, or None.
        data: The file's bytes, where `path` is but what to call it; or None.

    Returns:
        uint8 `(height, width)`.

    Raises:
        ValueError: If it cannot be read, has colours or another size than its image, or a
            label that is none.
    """
    try:
        mask = _open(path, data)
    except MaskError:
        raise
    except Exception as error:  # Pillow raises what its many decoders raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(
            f"Masks must be whole PNG files ({reason}). Received: {path}"
        ) from error
    if image_size is not None and mask.size != tuple(image_size)[::-1]:
        shapes = [" x ".join(map(str, pair)) for pair in (image_size[::-1], mask.size)]
        raise MaskError(
            f"A mask must have the size of its image, {shapes[0]}. Received: {path} of "
            f"{shapes[1]}"
        )
    if size is not None:
        mask = mask.resize(tuple(size)[::-1], Image.Resampling.NEAREST)
    mask = np.asarray(mask)
    if classes is None:
        return mask
    found = classes[mask]
    if (found == WRONG).any():
        wanted = np.flatnonzero(classes < WRONG)
        raise MaskError(
            f"Labels must be {_in_words(wanted)}, or 255 for void. Received: "
            f"{mask[found == WRONG].max()} in {path}"
        )
    return found


def image_size(path):
    """`(height, width)` of a picture file as it is seen, of which only the head is read."""
    from PIL import ExifTags

    with Image.open(path) as image:
        width, height = image.size
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return (width, height) if turned else (height, width)


def _open(path, data):
    if data is None and not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("no regular file")  # a pipe would be waited for
    source = path if data is None else io.BytesIO(data)
    with Image.open(source, formats=["PNG"]) as mask:
        mask.load()
    if mask.mode == "P":
        raise MaskError(
            "A mask must be gray, its values the labels, without a palette of colours. "
            "Where the palette's numbers are the labels, save them as gray: "
            f"Image.fromarray(np.asarray(Image.open(PATH))). Received: {path}"
        )
    if mask.mode not in ("L", "1"):
        raise MaskError(
            "A mask must be gray of 8 bits, its values the labels. Received: "
            f"{path} of Pillow's mode {mask.mode}"
        )
    return (
        mask.convert("L")
        if mask.mode == "L"
        else Image.fromarray(np.asarray(mask).astype("uint8"))
    )


def _in_words(labels):
    first, last = labels[0], labels[-1]
    if len(labels) == last - first + 1:
        return f"{first} to {last}"
    return ", ".join(map(str, labels))
