# SPDX-License-Identifier: Apache-2.0
"""Image files of the usual formats, as arrays of the pixels that are seen."""

import collections
import io
import os
import pathlib
import stat
import warnings

import numpy as np
from PIL import Image, ImageOps, features

from deepncm_tf.utils.errors import UserError

FORMATS = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "BMP": (".bmp",), "GIF": (".gif",)}
if features.check("webp"):
    FORMATS["WEBP"] = (".webp",)
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)


class FolderError(UserError, ValueError):
    """A folder of pictures cannot be used as it is."""


def find(paths, flag="--images"):
    """The image files among paths and in folders among them.

    Args:
        paths: Paths of files and folders.
        flag: String, what they were given as, for the error message.

    Returns:
        List of paths; those in a folder as from `find_in`.

    Raises:
        ValueError: If a path is not there, or no image.
        FolderError: If links in a folder lead back.
    """
    files = []
    for text in map(str, paths):
        path = pathlib.Path(text)
        if text and path.is_dir():  # '' is not meant for the current folder
            images = find_in(path)
        else:
            images = [path] if path.is_file() and _is_called_image(path) else []
        if not images:
            raise ValueError(
                f"{flag} must be image files ({', '.join(SUFFIXES)}) or folders of them. "
                f"Received: {flag}={text}"
            )
        files.extend(images)
    return files


def find_in(folder, within=None):
    """The image files in a folder and in those within; they are not opened.

    Args:
        folder: `pathlib.Path` of the folder.
        within: Path of a folder of classes, of which a picture must be in one alone: links
            that lead back to it, or to a folder twice, are refused. None to pass over them.

    Returns:
        List of paths in their order: links that lead nowhere and folders that cannot be
        opened, too, so that to read them fails; none with a name that begins with a dot.

    Raises:
        FolderError: If links are refused.
    """
    seen = set() if within is None else {_identity(within)}
    pending, found = [folder], []
    while pending:
        folder = pending.pop(0)
        identity = _identity(folder)
        if identity in seen:
            if within is None:
                continue
            raise FolderError(
                "The folders of a class must not lead back to one another by links. "
                f"Received: {folder}, which is met twice"
            )
        seen.add(identity)
        try:
            inside = entries(folder)
        except OSError:
            inside, found = [], [*found, folder]
        folders = {path for path in inside if path.is_dir()}
        # Links last: what is reached by its own path as well has that one.
        pending += sorted(folders, key=lambda path: (path.is_symlink(), path))
        found += [path for path in inside if path not in folders and _is_called_image(path)]
    return sorted(found)


def names_of(paths):
    """Names of files to show, a list of strings; paths where they are called the same."""
    counts = collections.Counter(path.name for path in paths)
    return [path.name if counts[path.name] == 1 else str(path) for path in paths]


def entries(folder):
    """Paths of what is in a folder, in their order, but what begins with a dot."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _is_called_image(path):
    return path.suffix.lower() in SUFFIXES


def _identity(folder):
    status = folder.stat()
    return status.st_dev, status.st_ino


def read(path, size, middle=False):
    """An image file as it is seen: turned as EXIF says, on white where transparent.

    Of a file with several pictures the first is read.

    Args:
        path: The file's path.
        size: `(height, width)` to resize to, bilinearly with antialiasing.
        middle: Whether to cut what is too long of it in either direction, in place of
            changing its proportions: False, True, or the share of the side that is taken.

    Returns:
        `(height, width, 3)` uint8 array, RGB.

    Raises:
        ValueError: If it is damaged, of another format, or larger than
            `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is odd and can be read
        return decode(path, size, middle)


def decode(path, size, middle=False, data=None, draw_box=None):
    """As `read`, for threads: they share Python's filters of warnings, which stay.

    Args:
        path, size, middle: As for `read`.
        data: The file's bytes, where `path` is but what to call it; or None.
        draw_box: Function from width and height to a part of the picture, `(left, top,
            right, bottom)`, that is taken in place of the middle; or None.
    """
    try:
        if data is None and not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError("no regular file")  # a pipe would be waited for
        source = path if data is None else io.BytesIO(data)
        with Image.open(source, formats=list(FORMATS)) as image:
            _check_pixels(image)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            image = _on_white(image)
        return resize(image, size, middle, draw_box)
    except Exception as error:  # Pillow raises what its many decoders raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(
            f"Image files must be whole {', '.join(FORMATS)} files ({reason}). "
            f"Received: {path}"
        ) from error


def resize(image, size, middle=False, draw_box=None):
    """A part of a picture in another size.

    Args:
        image: `PIL.Image.Image`.
        size, middle, draw_box: As for `decode`.

    Returns:
        `(height, width, channels)` uint8 array.
    """
    size, bilinear = size[::-1], Image.Resampling.BILINEAR
    if draw_box is not None:
        box = draw_box(image.width, image.height)
        return np.asarray(image.resize(size, bilinear, box=box))
    if middle:
        bleed = (1 - middle) / 2  # of each side
        return np.asarray(ImageOps.fit(image, size, bilinear, bleed=bleed))
    return np.asarray(image.resize(size, bilinear))


def _check_pixels(image):
    """Raises a ValueError where Pillow warns, and raises only for twice as many."""
    pixels, most = image.width * image.height, Image.MAX_IMAGE_PIXELS
    if most is not None and pixels > most:
        raise ValueError(f"{pixels} pixels exceeds limit of {most}: a decompression bomb?")


def _on_white(image):
    """A picture of any mode as RGB."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image  # which `convert` would copy
    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut to 255
        image = _eight_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _eight_bits(image):
    values = np.asarray(image).astype("float64")
    gray = Image.fromarray(np.round(np.clip(values, 0, 65535) / 257).astype("uint8"))
    if "transparency" in image.info:
        seen = values != image.info["transparency"]
        gray.putalpha(Image.fromarray(seen.astype("uint8") * 255))
    return gray
