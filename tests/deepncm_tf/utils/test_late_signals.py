# SPDX-License-Identifier: Apache-2.0
"""A second Ctrl-C while a stopped program ends leaves it its status."""

import subprocess
import sys

# Modules are taken apart once Python has put the system's handlers back.
LATE_SIGNAL = """
from deepncm_tf.utils import signals
signals.end_program("program")
import os, signal
class Late:
    kill, pid, number = os.kill, os.getpid(), int(signal.SIGINT)
    def __del__(self):
        Late.kill(Late.pid, Late.number)
late = Late()
from deepncm_tf.runs.command_line import CommandLine
CommandLine("program", "").fail("Stopped by SIGINT", 130)
"""


def test_a_signal_while_python_ends():
    process = subprocess.run(
        [sys.executable, "-c", LATE_SIGNAL], capture_output=True, text=True, check=False
    )
    assert process.returncode == 130
    assert process.stderr == "program: Stopped by SIGINT\n"
