# SPDX-License-Identifier: Apache-2.0
"""Each convolution of a ResNet by itself, beside PyTorch's, and their share of a step.

Both call oneDNN. What is left of a step once its convolutions are taken away is all that
the library could save.
"""

import os
import statistics

from benchmarks import timing
from benchmarks.table import Row

DEPTH, BATCH_SIZE, CALLS, STEPS = 8, 128, 3, 3  # calls and steps of a turn
KINDS = ("forward", "input's gradient", "filter's gradient")


def compare(rounds):
    """Rows of the table: GFLOP/s of each convolution, and their sum over the whole step."""
    from benchmarks import torch_resnet, training

    counts = timing.in_process(convolutions, DEPTH)
    cases = [(*shape, kind) for shape in counts for kind in KINDS]
    threads = len(os.sched_getaffinity(0))
    sides = {
        "ours": timing.Side(convolve, cases),
        "theirs": timing.Side(
            torch_resnet.convolve, cases, BATCH_SIZE, CALLS, threads,
            environment=training.MALLOC,
        ),
        "step": timing.Side(training.train, DEPTH, STEPS),
    }  # fmt: skip
    times = timing.in_turn(sides, rounds * len(cases), warm_up=len(cases))
    by_case = {
        side: {case: times[side][i :: len(cases)] for i, case in enumerate(cases)}
        for side in ("ours", "theirs")
    }
    rows = [row(shape, count, by_case) for shape, count in counts.items()]
    of_step = sum(
        counts[case[:-1]] * statistics.median(seconds) / CALLS
        for case, seconds in by_case["ours"].items()
        if case[:-1] != next(iter(counts))
        or case[-1] != KINDS[1]  # images have no gradient
    )
    step = statistics.median(times["step"]) / STEPS
    item = f"Convolutions by themselves, share of a step of ResNet-{DEPTH}"
    figures = f"{1000 * of_step:.1f} ms", f"step {1000 * step:.1f} ms"
    return [*rows, Row(item, *figures, of_step / step, "")]


def row(shape, count, by_case):
    """A row of the table: one convolution's GFLOP/s and its time over PyTorch's."""
    size, channels, filters, kernel, stride = shape
    outputs = BATCH_SIZE * (size // stride) ** 2 * filters
    operations = 2 * outputs * channels * kernel**2  # those of each kind
    rates, sums = {}, {}
    for side, times in by_case.items():
        seconds = [times[(*shape, kind)] for kind in KINDS]
        rates[side] = [operations * CALLS / statistics.median(s) / 1e9 for s in seconds]
        sums[side] = [sum(values) for values in zip(*seconds, strict=True)]
    item = (
        f"{count} convolution{'s' if count > 1 else ''} {kernel} x {kernel}, {channels} to "
        f"{filters} channels, {size} x {size}, stride {stride}: {', '.join(KINDS)}"
    )
    ours, theirs = (
        f"{' / '.join(f'{rate:.0f}' for rate in rates[side])} GFLOP/s"
        for side in ("ours", "theirs")
    )
    return Row(
        item, ours, f"PyTorch {theirs}", timing.ratio(sums["ours"], sums["theirs"]), ""
    )


def convolutions(depth):
    """The convolutions of a ResNet: a dictionary from shapes to how many there are.

    A shape is a tuple of image size, channels, filters, kernel size and stride.
    """
    import keras

    from official_resnet import cifar_resnet

    counts = {}
    for layer in cifar_resnet(depth).layers:
        if isinstance(layer, keras.layers.Conv2D):
            size, channels = layer.output.shape[1] * layer.strides[0], layer.input.shape[-1]
            shape = (size, channels, layer.filters, layer.kernel_size[0], layer.strides[0])
            counts[shape] = counts.get(shape, 0) + 1
    return counts


def convolve(turns, cases):
    """The next of the cases in each turn, `CALLS` times."""
    import tensorflow as tf

    def call(size, channels, filters, kernel, stride, kind):
        x = tf.random.normal((BATCH_SIZE, size, size, channels))
        y = tf.random.normal((BATCH_SIZE, size // stride, size // stride, filters))
        w = tf.random.normal((kernel, kernel, channels, filters))
        strides = [1, stride, stride, 1]
        if kind == KINDS[0]:
            return lambda: tf.nn.conv2d(x, w, strides, "SAME")
        if kind == KINDS[1]:
            return lambda: tf.raw_ops.Conv2DBackpropInput(
                input_sizes=x.shape, filter=w, out_backprop=y, strides=strides,
                padding="SAME",
            )  # fmt: skip
        return lambda: tf.raw_ops.Conv2DBackpropFilter(
            input=x, filter_sizes=w.shape, out_backprop=y, strides=strides, padding="SAME"
        )

    def graph_of(compute):  # since only graphs are rewritten for oneDNN
        return tf.function(lambda: tf.reshape(compute(), [-1])[0])  # the rest is not copied

    functions = [graph_of(call(*case)) for case in cases]
    for number, _ in enumerate(turns):
        for _ in range(CALLS):
            functions[number % len(functions)]().numpy()
