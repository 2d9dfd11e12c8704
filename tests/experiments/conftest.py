# SPDX-License-Identifier: Apache-2.0
"""A sweep in a folder of its own, and an sshd of the tests' own, each for one test."""

import getpass
import os
import shlex
import socket
import subprocess
import time

import pytest
from sweeping import Sweep, find_sshd


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path)


@pytest.fixture
def sshd(tmp_path):
    """Two sshlogins of GNU Parallel: ssh commands to a real sshd on 127.0.0.1.

    Its port and its keys exist for one test.
    """
    program = find_sshd()
    if program is None:
        pytest.skip("sshd is not installed")
    if os.getuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)  # sshd wants it as root
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "user.pub",
        "PasswordAuthentication": "no",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
    }
    settings = [f"-o{name}={value}" for name, value in options.items()]
    log = folder / "log"
    with log.open("w") as file:
        server = subprocess.Popen(
            [program, "-D", "-e", "-f/dev/null", *settings], stderr=file
        )
    end = time.monotonic() + 10
    while "Server listening" not in log.read_text():
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)
    client = {
        "Port": port,
        "IdentityFile": folder / "user",
        "UserKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "no",
        "LogLevel": "ERROR",
    }
    ssh = ["ssh", *(f"-o{name}={value}" for name, value in client.items())]
    user = getpass.getuser()
    yield [shlex.join([*ssh, f"{user}@{host}"]) for host in ("127.0.0.1", "localhost")]
    server.terminate()
    server.wait(10)
