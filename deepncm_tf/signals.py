# SPDX-License-Identifier: Apache-2.0
"""Stopping in good order: SIGTERM and Ctrl-C are heeded after the step they come in."""

import contextlib
import signal
import sys
import threading

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StoppedError(RuntimeError):
    """The run was stopped by a signal."""

    def __init__(self, signum):
        super().__init__(
            f"Stopped by {signal.Signals(signum).name}. The same command goes on from the "
            "last checkpoint."
        )
        self.status = 128 + signum  # the shell's convention


class Signals:
    """Remembers the first signal to stop; a second one acts at once.

    The attribute `received` is the signal's number, or None.
    """

    def __init__(self):
        self.received = None

    @contextlib.contextmanager
    def handled(self):
        """Handles the signals within a `with` statement, in the main thread alone."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {signum: signal.getsignal(signum) for signum in SIGNALS}

        def restore():
            for signum, handler in before.items():
                signal.signal(signum, handler)

        def receive(signum, frame):
            self.received = signum
            restore()
            name = signal.Signals(signum).name
            print(f"\n{name}: stopping after this step", file=sys.stderr, flush=True)

        for signum in SIGNALS:
            signal.signal(signum, receive)
        try:
            yield self
        finally:
            restore()

    def check(self):
        """Raises `StoppedError` where a signal has come."""
        if self.received is not None:
            raise StoppedError(self.received)
