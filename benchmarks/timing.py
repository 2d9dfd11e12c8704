# SPDX-License-Identifier: Apache-2.0
"""Times several things in turn, each in a process of its own, and compares them.

The speed of a machine changes from minute to minute; the ratio of two things that take
turns every second changes little. Each process waits while it is not its turn.
"""

import concurrent.futures
import contextlib
import dataclasses
import math
import multiprocessing
import os
import resource
import statistics
import time


class Turns:
    """An iterator over the turns of a process; what happens in between is timed.

    Args:
        connection: `multiprocessing.connection.Connection` to the process that gives turns.
    """

    def __init__(self, connection):
        self.connection = connection
        self.start = None

    def __iter__(self):
        return self

    def __next__(self):
        if self.start is not None:
            self.connection.send((time.perf_counter() - self.start, peak_memory()))
        if not self.connection.recv():
            raise StopIteration
        self.start = time.perf_counter()


class Side:
    """One of the things that are compared, in a process of its own.

    Args:
        work: Function of a module, `work(turns, *arguments)`: prepares, and then does the
            same again in each of its turns.
        *arguments: What `work` is given, to be pickled.
        environment: Dictionary of variables for the process.
        daemon: Bool, whether it ends with this process; it then can have no workers.
    """

    def __init__(self, work, *arguments, environment=None, daemon=True):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(
            target=_work, args=(other, work, arguments), daemon=daemon
        )
        with _environment(environment or {}):
            self.process.start()
        other.close()
        self.memory = 0  # bytes, peak of the process

    def seconds(self):
        """Gives the process a turn; the seconds that it takes."""
        self.connection.send(True)
        seconds, self.memory = self.connection.recv()
        return seconds

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.connection.send(False)
        self.process.join(30)
        self.process.terminate()


def _work(connection, work, arguments):
    work(Turns(connection), *arguments)


@contextlib.contextmanager
def _environment(variables):
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def in_turn(sides, rounds, warm_up=2):
    """Seconds of each side in each round.

    Args:
        sides: Dictionary from names to `Side`s, which are closed at the end.
        rounds: Int, those that count.
        warm_up: Int, rounds before them: tracing, first buffers.

    Returns:
        Dictionary from names to lists of `rounds` floats.
    """
    times = {name: [] for name in sides}
    try:
        for round_number in range(-warm_up, rounds):
            for name, side in sides.items():
                seconds = side.seconds()
                if round_number >= 0:
                    times[name].append(seconds)
    finally:
        for side in sides.values():
            side.close()
    return times


@dataclasses.dataclass
class Ratio:
    """Median of paired ratios, and an interval that has the true one with 95 %.

    Of less than six ratios it is that of the smallest and the largest: with 75 % of three.
    """

    median: float
    low: float
    high: float

    def __str__(self):
        digits = 3 if abs(self.median - 1) < 0.1 else 2
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


def ratio(numerators, denominators):
    """The `Ratio` of two lists of figures that were measured in turn.

    The interval is that of the median by order statistics, for which ratios may have any
    distribution.
    """
    ratios = sorted(a / b for a, b in zip(numerators, denominators, strict=True))
    below = max(0, math.floor(len(ratios) / 2 - 0.98 * math.sqrt(len(ratios))))
    return Ratio(statistics.median(ratios), ratios[below], ratios[-1 - below])


def peak_memory():
    """Peak memory of this process, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_process(function, *arguments):
    """What a function of a module returns when called in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as executor:
        return executor.submit(function, *arguments).result()
