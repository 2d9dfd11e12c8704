# SPDX-License-Identifier: Apache-2.0
"""A lock on a folder, which at most one process holds to write there."""

import errno
import fcntl
import os
import pathlib
import socket
import stat

LOCK = "lock"
LONGEST = 200  # bytes of a lock's text that are read


def open_file(path, flags):
    """Opens a plain file: no folder, pipe or device; a link only where `flags` let it.

    Returns:
        A descriptor.

    Raises:
        OSError: If there is none, or it cannot be opened.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "Not a plain file", str(path))
    return descriptor


def try_lock(file, shared=False):
    """Locks an open file for this process, unless another process holds it.

    Args:
        file: A file or its descriptor; the lock is given back when it is closed.
        shared: Bool, whether other processes may hold the lock too, shared.

    Returns:
        Bool, whether the lock was taken.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_lock(file):
    """Locks an open file for this process, once no other process holds it."""
    fcntl.flock(file, fcntl.LOCK_EX)


class FolderLock:
    """A lock on a folder: an flock on the file `lock` in it, whose text says who holds it.

    The lock goes where the file goes: a folder that is moved takes it along, and another
    folder can take its path. `in_place` tells.

    Args:
        folder: Path of the folder.
    """

    def __init__(self, folder):
        self.path = pathlib.Path(folder) / LOCK
        self._descriptor = None

    def take(self, create=True, shared=False):
        """Takes the lock.

        Args:
            create: Bool, whether to make the file where there is none.
            shared: Bool, as for `try_lock`.

        Returns:
            None; or a string, who holds it.

        Raises:
            OSError: If the system refuses.
        """
        flags = os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        descriptor = open_file(self.path, flags)
        try:
            if not try_lock(descriptor, shared):
                return _read(descriptor) or "another process"
            self._descriptor = descriptor
            return None
        finally:
            if self._descriptor is None:
                os.close(descriptor)

    @property
    def held(self):
        """Whether this object holds a lock, wherever its folder is by now."""
        return self._descriptor is not None

    def in_place(self):
        """Whether the lock that is held is still that of the folder at the path."""
        try:
            at_path = os.lstat(self.path)
        except OSError:
            return False
        return os.path.samestat(at_path, os.fstat(self._descriptor))

    def read(self):
        """The text of the lock that is held."""
        return _read(self._descriptor)

    def write(self, text):
        """Writes the text of the lock that is held."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{text}\n".encode(), 0)

    def sign(self):
        """Writes that this process holds the lock."""
        self.write(f"process {os.getpid()} on {socket.gethostname()}")

    def close(self):
        """Gives the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _read(descriptor):
    return os.pread(descriptor, LONGEST, 0).decode("utf-8", "replace").strip()
