# SPDX-License-Identifier: Apache-2.0
"""Stopping in good order, and in one line: Ctrl-C, SIGTERM and SIGHUP.

A command line calls `end_program` before anything else: from then on a signal ends it at
once. Within `Signals.handled` a signal is heeded after the step that it comes in; a second
Ctrl-C ends the program at once there, too. Without `end_program`, in a program that uses
this as a library, a second Ctrl-C is Python's KeyboardInterrupt.

Signals that are ignored when a program starts (nohup, a background job of a shell) stay
ignored.
"""

import contextlib
import io
import itertools
import os
import signal
import stat
import sys
import threading

from deepncm_tf.utils import files
from deepncm_tf.utils.errors import UserError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_program = None  # name of the command line, where `end_program` was called
_handling = None  # the `Signals` that handles signals now


class StoppedError(UserError):
    """The run was stopped by a signal."""

    def __init__(self, signum):
        super().__init__(
            f"Stopped by {signal.Signals(signum).name}. The same command goes on from the "
            "last checkpoint."
        )
        self.status = 128 + signum  # the shell's convention


class Signals:
    """Remembers the first signal to stop; a second Ctrl-C acts at once.

    The attribute `received` is the signal's number, or None.
    """

    def __init__(self):
        self.received = None
        self._seen = []
        self._count = itertools.count()  # one at a time, also in handlers within handlers

    @contextlib.contextmanager
    def handled(self):
        """Handles the signals within a `with` statement, in the main thread alone."""
        global _handling
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        _handling = self
        before = _set_handlers()
        try:
            yield self
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)
            _handling = None

    def check(self):
        """Raises `StoppedError` where a signal has come."""
        if self.received is not None:
            raise StoppedError(self.received)

    def note(self, signum):
        """Remembers a signal; returns false for a second Ctrl-C."""
        if signum == signal.SIGINT and signum in self._seen:
            return False
        self.received = self.received or signum
        self._seen.append(signum)
        if next(self._count) == 0:
            _say(f"{signal.Signals(signum).name}: stopping after this step")
        return True


def end_program(program):
    """Lets a signal end this process at once: one line, and the shell's status.

    A thread of its own hears the signals, since Python's handlers wait for the main thread:
    for as long as TensorFlow compiles or computes a step.

    Args:
        program: String, the program's name, which begins the line.
    """
    global _program
    _program = program
    pipe, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    _set_handlers()
    for name in ("stdout", "stderr"):
        if getattr(sys, name).isatty():
            setattr(sys, name, _terminal(getattr(sys, name)))
    threading.Thread(target=_listen, args=(pipe,), daemon=True).start()


def ignore():
    """Lets a program that is about to end do so by itself, with its own status.

    Python puts the system's handlers back before it takes modules apart, and a signal that
    came then would end the program in the system's way.
    """
    if _program is not None:
        for signum in SIGNALS:
            signal.signal(signum, signal.SIG_IGN)


def _set_handlers():
    """Sets `_receive` where signals are not ignored; returns the handlers before."""
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    before = {s: h for s, h in before.items() if h not in (signal.SIG_IGN, None)}
    for signum in before:
        signal.signal(signum, _receive)
    return before


def _receive(signum, frame):
    """In the main thread, when it comes to it."""
    if _program is not None:
        if _handling is not None:
            _handling.received = _handling.received or signum  # the rest is `_listen`'s
    elif not _handling.note(signum):
        raise KeyboardInterrupt


def _listen(pipe):
    while True:
        for signum in os.read(pipe, 1):
            if signum == signal.SIGHUP:
                _leave_terminal()
            if signum in SIGNALS and not (_handling and _handling.note(signum)):
                _end(signum)


def _end(signum):
    files.remove_own_temporaries()
    flush = threading.Thread(target=flush_output, daemon=True)
    flush.start()
    flush.join(1)  # who reads the output may have stopped
    _say(f"{_program}: Stopped by {signal.Signals(signum).name}.")
    os._exit(128 + signum)


def flush_output():
    """Writes out what was printed; drops it where nobody reads it any more."""
    try:
        sys.stdout.flush()
    except OSError:
        _drop(sys.stdout.fileno())


class _Terminal(io.FileIO):
    """A terminal that may be closed before the signal that says so is heard."""

    def write(self, data):
        try:
            return super().write(data)
        except OSError:
            _leave_terminal()
            return super().write(data)


def _terminal(stream):
    """A text stream to the terminal of a stream, which drops what nobody can read."""
    return io.TextIOWrapper(
        io.BufferedWriter(_Terminal(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=True,
    )


def _leave_terminal():
    """Drops what is printed from now on, where that was to a terminal that was closed."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
                _drop(descriptor)


def _drop(descriptor):
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _say(text):
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # closed, or in use
        after_echo = "\n" if sys.stderr.isatty() else ""  # the terminal shows ^C
        print(f"{after_echo}{text}", file=sys.stderr, flush=True)
