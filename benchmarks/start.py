# SPDX-License-Identifier: Apache-2.0
"""How long a command takes until it answers, and until it has trained its first step."""

import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.table import Row

# A program that is ended at the end of its first step.
FIRST_STEP = """
import os, sys
from deepncm_tf import cifar_main
from deepncm_tf.runs import callbacks
def end(self, batch, logs=None):
    os._exit(0)
callbacks.StopAfter.on_train_batch_end = end
sys.argv[1:] = ["--dataset=digits", "--ncm=decay", "--model_dir=" + sys.argv[1]]
from absl import app
app.run(cifar_main.main, flags_parser=cifar_main.parse)
"""


def compare(rounds):
    """Rows of the table: seconds to the first step on digits, and to `--help`."""
    cases = {
        "Start to the end of the first step, digits": (first_step, "<= 7.0"),
        "`cifar_main --help`": (show_help, "<= 0.5"),
    }
    rows = []
    for item, (function, goal) in cases.items():
        function()  # whose bytecode may have to be compiled
        seconds = statistics.median(function() for _ in range(min(rounds, 5)))
        rows.append(Row(item, f"{seconds:.2f} s", "", seconds, goal))
    return rows


def first_step():
    with tempfile.TemporaryDirectory() as folder:
        return seconds_of("-c", FIRST_STEP, folder + "/run")


def show_help():
    return seconds_of("-m", "deepncm_tf.cifar_main", "--help")


def seconds_of(*arguments):
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - start
