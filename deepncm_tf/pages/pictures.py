# SPDX-License-Identifier: Apache-2.0
"""PNG pictures of arrays."""

import io

import numpy as np
from PIL import Image

WHITE, MISSING = 255, 216


def png(image):
    """A picture as the bytes of a PNG file; the same pixels give the same bytes.

    Args:
        image: `(h, w)`, `(h, w, 1)` or `(h, w, 3)` uint8 array, gray or RGB.

    Returns:
        Bytes.

    Raises:
        ValueError: If `image` is anything else, or empty.
    """
    image = checked(image)
    gray = image.shape[2] == 1
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if gray else image).save(file, "PNG", optimize=True)
    return file.getvalue()


def contact_sheet(images, scale=2, gap=2):
    """Many pictures in one: a grid, such as classes x sub-centroids, as a PNG file.

    Nothing is written on the sheet, as that would take a font: row `i` of the sheet is
    row `i` of `images`, from the top.

    Args:
        images: `(rows, columns, h, w, c)` uint8 array, or a list of rows of pictures of
            one shape. A row may be short, and a picture None; its place is then light gray.
        scale: Integer, pixels of the sheet per pixel of a picture, in each direction.
        gap: Integer, pixels of white between pictures and around them.

    Returns:
        Bytes.

    Raises:
        ValueError: If there is no picture, or they are not uint8 and of one shape.
    """
    images = [list(row) for row in images]
    pictures = [checked(image) for row in images for image in row if image is not None]
    shapes = sorted({picture.shape for picture in pictures})
    if len(shapes) != 1:
        raise ValueError(f"`images` must hold pictures of one shape. Received: {shapes}")
    height, width, channels = shapes[0]
    down, right = height * scale + gap, width * scale + gap
    columns = max(map(len, images))
    sheet = np.full(
        (gap + down * len(images), gap + right * columns, channels), WHITE, np.uint8
    )
    for r, row in enumerate(images):
        for c in range(columns):
            top, left = gap + r * down, gap + c * right
            place = sheet[top : top + height * scale, left : left + width * scale]
            image = row[c] if c < len(row) else None
            if image is None:
                place[:] = MISSING
            else:
                place[:] = checked(image).repeat(scale, axis=0).repeat(scale, axis=1)
    return png(sheet)


def read_png(data):
    """The picture of the bytes of a PNG file, uint8 `(h, w)` or `(h, w, 3)`."""
    return np.asarray(Image.open(io.BytesIO(data)))


def checked(image):
    """The image as a `(h, w, c)` array that can be drawn.

    Raises:
        ValueError: As `png`.
    """
    image = np.asarray(image)
    shape = image.shape if image.ndim == 3 else (*image.shape, 1)
    if image.dtype != np.uint8 or len(shape) != 3 or shape[2] not in (1, 3) or 0 in shape:
        raise ValueError(
            "An image must be a uint8 array of shape (h, w), (h, w, 1) or (h, w, 3). "
            f"Received: {image.dtype} {image.shape}"
        )
    return image.reshape(shape)
