# SPDX-License-Identifier: Apache-2.0
"""TensorFlow's lines about its own start are left out, and no others."""

import os
import subprocess
import sys

import pytest

from deepncm_tf.utils import quiet

NOISE = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to",
    "I0000 00:00:1795873753.342665   19318 port.cc:153] oneDNN custom operations are on.",
    "I0000 00:00:1795873753.343012   19318 cudart_stub.cc:31] Could not find cuda drivers",
    "2026-11-28 13:50:27.123456: I tensorflow/core/platform/cpu_feature_guard.cc:210] This",
    "To enable the following instructions: AVX2 FMA, in other operations, rebuild",
    "E0000 00:00:1717 1 cuda_dnn.cc:8310] Unable to register cuDNN factory: Attempting to",
]
NO_GPU = "E0000 00:00:1795873756.7 1 cuda_platform.cc:52] failed call to cuInit: INTERNAL"
ERRORS = [
    "E0000 00:00:1795873756.7 1 cuda_dnn.cc:52] Could not create cudnn handle",
    "W0000 00:00:1795873756.7 1 gpu_device.cc:2342] Cannot dlopen some GPU libraries.",
    "2026-11-28 13:50:27.123456: F tensorflow/core/platform/env.cc:1] Check failed",
    "ImportError: libcudart.so.12: cannot open shared object file",
    "Information for users",
    "",
]


def test_what_is_noise(monkeypatch):
    assert [line for line in NOISE if not quiet.is_noise(line.encode())] == []
    assert [line for line in ERRORS if quiet.is_noise(line.encode())] == []
    monkeypatch.setattr(quiet, "GPUS", "/no/such/device*")
    assert quiet.is_noise(NO_GPU.encode())
    monkeypatch.setattr(quiet, "GPUS", "/dev/null")
    assert not quiet.is_noise(NO_GPU.encode())  # there is one: it says why it is not used


def test_descriptor_two_is_filtered(capfd):
    with quiet.filtered_errors():
        os.write(2, "\n".join([*NOISE, *ERRORS, "no end of line"]).encode())
    os.write(2, f"\n{NOISE[0]}".encode())  # afterwards nothing is left out
    assert capfd.readouterr().err == "\n".join([*ERRORS, "no end of line", NOISE[0]])


@pytest.mark.parametrize("fails", [False, True])
def test_the_filter_is_taken_away(capfd, fails):
    before = sys.stderr
    try:
        with quiet.filtered_errors():
            if fails:
                raise ImportError
    except ImportError:
        pass
    assert sys.stderr is before
    print("heard", file=sys.stderr, flush=True)
    assert capfd.readouterr().err == "heard\n"


def test_pythons_own_lines_go_past_the_filter():
    """So that none is lost where the program ends while TensorFlow is imported."""
    code = (
        "import os, sys; from deepncm_tf.utils import quiet\n"
        "with quiet.filtered_errors():\n"
        "    print('Stopped by SIGTERM', file=sys.stderr); os._exit(3)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (3, b"Stopped by SIGTERM\n")


def test_without_a_standard_error():
    code = (
        "from deepncm_tf.utils import quiet\n"
        "with quiet.filtered_errors():\n    print('goes on')"
    )
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, b"goes on\n")


@pytest.mark.slow
def test_tensorflow_starts_without_a_word():
    quietly = "from deepncm_tf.utils import quiet; quiet.start_tensorflow()"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"}
    heard = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, env=environment, check=True
        ).stderr
        for code in (quietly, "import tensorflow")
    ]
    assert heard[0] == b""
    assert heard[1] != b""  # what it says by itself
