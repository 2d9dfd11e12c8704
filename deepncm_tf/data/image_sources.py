# SPDX-License-Identifier: Apache-2.0
"""Images that are made when they are asked for, in the place of an array of all of them."""

import concurrent.futures
import functools
import os
import warnings

import numpy as np
from PIL import Image

from deepncm_tf.data import distorted_crops, image_files

BLOCK = 1024  # images that are checked together


@functools.cache
def _threads():
    """Pillow decodes and resizes without holding Python's lock."""
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of what is odd and can be read
    return concurrent.futures.ThreadPoolExecutor(os.cpu_count(), "images")


class ImageSource:
    """Images of one size, which are indexed as a uint8 array `(n, height, width, 3)` is.

    An integer gives an image; a slice, a list, or an array of integers or bools gives an
    array of images, which alone takes memory.

    Args:
        count: Int, number of images.
        image_size: Int, height and width.
        middle: Float in (0, 1], share of the side of the middle square that is taken.

    Attributes:
        failure: The last error of an image that could not be made, or None.
    """

    dtype = np.dtype("uint8")

    def __init__(self, count, image_size, middle=1.0):
        self.shape = (count, image_size, image_size, 3)
        self.middle = middle
        self.failure = None

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        rows = np.arange(len(self))[rows]  # as NumPy indexes, errors included
        if rows.ndim == 0:
            return self._one(int(rows))
        return self._many(rows, [None] * rows.size)

    def crops(self, rows, keys):
        """Random parts of images.

        Args:
            rows: `(n,)` integers.
            keys: `(n,)` integers >= 0, of which the parts are a function, see
                `distorted_crops.draw_box`.

        Returns:
            `(n, height, width, 3)` uint8 array.
        """
        return self._many(np.asarray(rows), np.asarray(keys).tolist())

    def _many(self, rows, keys):
        images = np.empty((rows.size, *self.shape[1:]), self.dtype)
        # Into its place: a list of all of them and the array would be twice the memory.
        put = functools.partial(self._put, images)
        for _ in _threads().map(put, range(rows.size), rows.ravel(), keys):
            pass
        return images.reshape(*rows.shape, *self.shape[1:])

    def _put(self, images, place, row, key):
        images[place] = self._one(int(row), key)

    def _one(self, row, key=None):
        try:
            if key is None:
                return self.read(row)
            draw_box = functools.partial(distorted_crops.draw_box, key=key)
            return self.read(row, draw_box)
        except ValueError as error:
            self.failure = error
            raise

    def read(self, row, draw_box=None):
        """The image of a row, or a part of it.

        Args:
            row: Int.
            draw_box: As for `image_files.decode`.

        Raises:
            ValueError: If there is none to be had.
        """
        raise NotImplementedError

    def take(self, rows):
        """A source of some of the images, in the order of an array of their rows."""
        raise NotImplementedError


class ImageFiles(ImageSource):
    """Picture files, decoded when they are asked for: the middle square of each.

    Args:
        paths: List of paths.
        image_size, middle: As for `ImageSource`.
    """

    def __init__(self, paths, image_size, middle=1.0):
        super().__init__(len(paths), image_size, middle)
        self.paths = paths

    def read(self, row, draw_box=None):
        return image_files.decode(
            self.paths[row], self.shape[1:3], self.middle, draw_box=draw_box
        )

    def take(self, rows):
        paths = [self.paths[row] for row in rows]
        return ImageFiles(paths, self.shape[1], self.middle)


class ResizedImages(ImageSource):
    """Images in memory in another size, bilinearly with antialiasing.

    Args:
        images: uint8 `(n, height, width, 3)`.
        image_size, middle: As for `ImageSource`.
    """

    def __init__(self, images, image_size, middle=1.0):
        super().__init__(len(images), image_size, middle)
        self.images = images

    def read(self, row, draw_box=None):
        image = Image.fromarray(self.images[row])
        middle = self.middle if self.middle < 1 else False
        return image_files.resize(image, self.shape[1:3], middle, draw_box)

    def take(self, rows):
        return ResizedImages(self.images[rows], self.shape[1], self.middle)


def find_bad(paths, image_size):
    """Reads all files once, and says which cannot be read.

    Args:
        paths: List of paths.
        image_size: Int, as for `ImageFiles`.

    Returns:
        Dictionary from such paths, in order, to the errors' messages.
    """
    files = ImageFiles(paths, image_size)

    def reason(row):
        try:
            files.read(row)
        except ValueError as error:
            return str(error)
        return None

    bad = {}
    for start in range(0, len(paths), BLOCK):
        rows = range(start, min(start + BLOCK, len(paths)))
        for row, text in zip(rows, _threads().map(reason, rows), strict=True):
            if text is not None:
                bad[paths[row]] = text
    return bad
