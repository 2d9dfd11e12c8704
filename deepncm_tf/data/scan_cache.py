# SPDX-License-Identifier: Apache-2.0
"""Which pictures of a folder could be read when they were read last.

Only where a picture's path, size and time of change are those of then is it not read again.
There is one small file for each folder, 16 bytes for each picture, in `~/.cache/deepncm_tf`
or in the folder that DEEPNCM_TF_CACHE names; none where that is empty. Whatever is amiss
with such a file, pictures are read once more.
"""

import contextlib
import hashlib
import os
import pathlib
import time

import numpy as np
import PIL

from deepncm_tf.utils import files

VARIABLE = "DEEPNCM_TF_CACHE"
DIGEST = 16  # bytes
RECENT = 2 * 10**9  # nanoseconds in which a change may leave the time of change as it was


def unread(root, paths):
    """The pictures that must be read to see whether they can be.

    Args:
        root: Path of the folder.
        paths: List of paths.

    Returns:
        List of those that are new, have changed, or could not be read.
    """
    known = _read(_file_of(root))
    return [path for path in paths if _digest(path) not in known]


def keep(root, paths):
    """Keeps in mind that pictures could be read.

    Args:
        root: Path of the folder.
        paths: List of the paths of all of its pictures that can be read.
    """
    file = _file_of(root)
    if file is None:
        return
    digests = filter(None, (_digest(path, settled=True) for path in paths))
    content = np.frombuffer(b"".join(digests), "uint8")
    with contextlib.suppress(OSError):  # a home that cannot be written, a full disk
        files.make_folder(file.parent)
        files.write_atomically(file, lambda path: np.save(path, content))


def _file_of(root):
    folder = os.environ.get(VARIABLE)
    if folder == "":
        return None
    folder = folder or os.path.expanduser(os.path.join("~", ".cache", "deepncm_tf"))
    name = hashlib.sha256(os.fsencode(os.path.abspath(root))).hexdigest()[:32]
    return pathlib.Path(folder) / f"{name}.npy"


def _read(file):
    """The digests in a file, a set; empty where there is none that can be read."""
    if file is None:
        return set()
    try:
        content = np.load(file, allow_pickle=False).astype("uint8").tobytes()
    except Exception:  # a damaged file fails in many ways
        return set()
    starts = range(0, len(content), DIGEST)
    return {content[start : start + DIGEST] for start in starts}


def _digest(path, settled=False):
    """What stands for a picture as it is; None if it is gone, or has just been changed."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if settled and time.time_ns() - status.st_mtime_ns < RECENT:
        return None
    text = f"{PIL.__version__} {status.st_size} {status.st_mtime_ns} {status.st_ino} "
    key = text.encode() + os.fsencode(os.path.abspath(path))
    return hashlib.sha256(key).digest()[:DIGEST]
