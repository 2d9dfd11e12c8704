# SPDX-License-Identifier: Apache-2.0
"""NumPy's files from elsewhere: sizes are checked before memory is taken for them."""

import contextlib
import io
import math
import os
import warnings
import zipfile

import numpy as np

from deepncm_tf.utils.errors import one_line

LONGEST_HEADER = 2**14  # bytes; NumPy refuses headers of 10,000 characters
DEFLATE_LIMIT = 1032  # bytes that one byte of an archive can stand for


def read_npy(path, mmap_mode=None):
    """An array of an `.npy` file; `mmap_mode` as for `numpy.load`.

    Raises:
        ValueError: If it is none.
    """
    with _one_error():
        with open(path, "rb") as file:
            _check_header(path, file.read(LONGEST_HEADER), os.path.getsize(path))
        return np.load(path, mmap_mode=mmap_mode, allow_pickle=False)


def read_npz(path, names):
    """The arrays of these names in an `.npz` file, a dictionary.

    Raises:
        ValueError: If it is none, or lacks one.
    """
    with _one_error():
        with zipfile.ZipFile(path) as archive:
            for name in names:
                _check_member(archive, f"{name}.npy", os.path.getsize(path))
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}


def check_size(info, archive_size):
    """Raises a ValueError where a member of a zip file cannot be as long as it claims."""
    if info.file_size > DEFLATE_LIMIT * min(info.compress_size, archive_size):
        raise ValueError(
            f"{info.filename} claims {info.file_size} bytes in a file of {archive_size}"
        )


@contextlib.contextmanager
def _one_error():
    """One kind of error for what NumPy, zipfile and the parsers of headers raise."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a whole file gives none
            yield
    except Exception as error:
        raise ValueError(one_line(error)) from error


def _check_member(archive, member, archive_size):
    info = archive.getinfo(member)
    check_size(info, archive_size)
    with archive.open(info) as file:
        _check_header(member, file.read(LONGEST_HEADER), info.file_size)


def _check_header(name, start, size):
    """Raises a ValueError unless the file is as long as its header says."""
    file = io.BytesIO(start)
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, _, dtype = read[version](file)
    claimed = file.tell() + math.prod(shape) * dtype.itemsize
    if claimed != size:
        raise ValueError(f"{name} claims {claimed} bytes, and has {size}")
