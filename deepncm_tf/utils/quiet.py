# SPDX-License-Identifier: Apache-2.0
"""TensorFlow's start without the lines that it writes about itself."""

import contextlib
import glob
import os
import re
import sys
import threading

# What TensorFlow says at every start, in C++ and past Python's logging: that it logs, which
# kernels it has, that there is no GPU, and (E, a fault of TensorFlow's) that libraries were
# registered twice.
NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\)"
    rb"|I\d{4} \d\d:\d\d:\d"  # in absl's form, and in TensorFlow's older one
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: I "
    rb"|To enable the following instructions:"
    rb"|.*Unable to register cu(DNN|FFT|BLAS) (factory|plugin)"
    rb"|.*computation placer already registered"
)
WITHOUT_GPU = re.compile(
    rb".*(failed call to cuInit|cuda_diagnostics\.cc|Could not find cuda drivers)"
)
GPUS = "/dev/nvidia[0-9]*"


def start_tensorflow():
    """Imports TensorFlow and has it look for devices, without its lines about that.

    Whatever else is written to the standard error, by any library, stays: errors, and
    where there is a GPU that cannot be used, what says so.
    """
    if "tensorflow" in sys.modules:
        return
    with filtered_errors():
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextlib.contextmanager
def filtered_errors():
    """Leaves out `NOISE` of what is written to file descriptor 2.

    `sys.stderr` goes past the filter, so that nothing of Python's is late or lost where
    the program is ended meanwhile.
    """
    before = sys.stderr
    try:
        kept = os.dup(2)
    except OSError:  # the program was started without a standard error
        yield
        return
    with contextlib.suppress(OSError, ValueError):
        before.flush()
    source, sink = os.pipe()
    os.dup2(sink, 2)
    os.close(sink)
    sys.stderr = _unfiltered(before, kept)
    thread = threading.Thread(target=_pass_on, args=(source, kept), daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.dup2(kept, 2)  # which closes the pipe: the thread comes to its end
        sys.stderr = before
        thread.join(1)  # longer where a process that was started meanwhile holds on to it


def is_noise(line):
    """Whether a line, bytes, is one that TensorFlow writes at every start."""
    if NOISE.match(line):
        return True
    return bool(WITHOUT_GPU.match(line)) and not glob.glob(GPUS)


def _unfiltered(stream, descriptor):
    """A stream to where file descriptor 2 led, if the given one leads there, too.

    It stays open: loggers that are made meanwhile keep it.
    """
    try:
        if stream.fileno() != 2:
            return stream
    except (OSError, ValueError):  # no file, as in tests
        return stream
    return open(
        descriptor, "w", buffering=1, encoding=stream.encoding, errors=stream.errors,
        closefd=False,
    )  # fmt: skip


def _pass_on(source, target):
    with open(source, "rb") as lines:
        for line in lines:
            if not is_noise(line):
                with contextlib.suppress(OSError):  # a terminal that was closed
                    os.write(target, line)
