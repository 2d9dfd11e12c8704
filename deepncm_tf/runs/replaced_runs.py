# SPDX-License-Identifier: Apache-2.0
"""Runs that `--overwrite` replaces: moved aside, deleted once the new one is under way.

They lie beside the new run's folder, as `NAME.old1` and so on. The text of their lock tells
them from folders that a user gave such a name, or has begun to use again.
"""

import contextlib
import os
import re
import shutil

from deepncm_tf.utils import files
from deepncm_tf.utils.locks import FolderLock

REPLACED = "replaced by --overwrite"


def move_aside(folder, lock):
    """Renames a run's folder, and gives its lock back.

    Args:
        folder: Path of the folder.
        lock: Its `FolderLock`, held.
    """
    number = 1
    while os.path.lexists(aside := folder.with_name(f"{folder.name}.old{number}")):
        number += 1
    os.rename(folder, aside)
    files.sync(folder.parent)
    lock.write(REPLACED)
    lock.close()


def delete_replaced(folder):
    """Deletes all that was moved aside for the run in a folder.

    Raises:
        OSError: If something cannot be deleted.
    """
    name = re.compile(re.escape(folder.name) + r"\.old\d+")
    for path in folder.parent.iterdir():
        if name.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            _delete(path)


def _delete(folder):
    with contextlib.closing(FolderLock(folder)) as lock:
        try:
            taken = lock.take(create=False) is None
        except FileNotFoundError:
            return
        if not taken or lock.read() != REPLACED:
            return
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != lock.path:
                path.unlink()
        lock.path.unlink()  # last, as it tells what the rest is
        folder.rmdir()
