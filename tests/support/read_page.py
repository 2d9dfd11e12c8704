# SPDX-License-Identifier: Apache-2.0
"""What the pages and their pictures show."""

import io

import numpy as np
from PIL import Image


def pixels(file):
    """The `(h, w, c)` uint8 array of a PNG file's bytes."""
    picture = Image.open(io.BytesIO(file), formats=["PNG"])
    return np.atleast_3d(np.asarray(picture))
