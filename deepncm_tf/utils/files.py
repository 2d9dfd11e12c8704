# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there, also after a kill or a power loss."""

import contextlib
import errno
import json
import os
import pathlib
import re

_in_progress = set()  # paths of the temporary files that this process writes


def write_atomically(path, write):
    """Writes a file for good: under a temporary name, synced to the disk, then renamed.

    Args:
        path: The file's path.
        write: Function that writes to a path; the temporary name ends like `path`.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    _in_progress.add(temporary)
    try:
        write(temporary)
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        _in_progress.discard(temporary)


def write_json(path, value):
    write_text(path, json.dumps(value, indent=2, sort_keys=False) + "\n")


def write_text(path, text):
    write_atomically(path, lambda temporary: temporary.write_text(text, "utf-8"))


def sync(path):
    """Waits until a file's contents, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot sync folders
            raise
    finally:
        os.close(descriptor)


def make_folder(path):
    """Makes a folder, and those above it, for good."""
    path = pathlib.Path(path)
    if not path.is_dir():
        if path.parent != path:
            make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)


def is_temporary(name):
    """Whether a name is one that `write_atomically` writes under."""
    return re.match(r"\.tmp-\d+-", name) is not None


def remove_temporaries(folder):
    """Removes what killed processes left in a folder, where no other may be writing."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if is_temporary(entry.name) and not entry.is_dir(follow_symlinks=False):
                os.remove(entry.path)


def remove_own_temporaries():
    """Removes the temporary files of this process, which is about to end at once."""
    for path in list(_in_progress):
        with contextlib.suppress(OSError):
            os.remove(path)


def describe(error):
    """What the system says: an `OSError` without its number, with the file's name."""
    text = getattr(error, "strerror", None) or str(error)
    name = getattr(error, "filename", None)
    return f"{text}: {name}" if name else text
