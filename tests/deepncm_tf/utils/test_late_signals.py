# SPDX-License-Identifier: Apache-2.0
"""A second signal while the first is handled, and while a stopped program ends."""

import signal
import subprocess
import sys

from deepncm_tf.utils import signals

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


def test_a_signal_while_another_one_is_said(monkeypatch):
    stop, said = signals.Signals(), []

    def say(line):
        said.append(line)
        if len(said) == 1:
            assert stop.note(signal.SIGHUP)

    monkeypatch.setattr(signals, "_say", say)
    assert stop.note(signal.SIGINT)
    assert said == ["SIGINT: stopping after this step"]
    assert stop.received == signal.SIGINT
    assert not stop.note(signal.SIGINT)
