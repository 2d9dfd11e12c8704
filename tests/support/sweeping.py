# SPDX-License-Identifier: Apache-2.0
"""Drives `run_experiments.sh` in tests, with runs that train nothing."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from experiments import grid

ROOT = pathlib.Path(grid.__file__).parents[1]
SCRIPT = str(ROOT / "run_experiments.sh")
DEMO = "experiments/demo.tsv"
needs_parallel = pytest.mark.skipif(
    "GNU parallel"
    not in subprocess.run(
        ["sh", "-c", "parallel --version"], capture_output=True, text=True
    ).stdout,
    reason="GNU Parallel is not installed",
)

PYTHON = """#!/bin/sh
# Python, but a job of the sweep starts a run that trains nothing.
export FAKE_SECONDS={seconds}
if [ "$1 $2" = "-m experiments.job" ]; then
  shift 2
  exec {python} -c "import sys
from experiments import job
job.TRAIN = ('{fake}',)
job.main(sys.argv[1:])" "$@"
fi
exec {python} "$@"
"""


class Sweep:
    """A sweep into a folder of its own; with `fake`, of runs that train nothing."""

    def __init__(self, folder, fake=True):
        self.fake = fake
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.runs = folder / "the runs"  # a path that needs quoting
        self.seconds = 0.2

    def command(self, arguments, changes):
        python = self.folder / "python"
        start = PYTHON if self.fake else '#!/bin/sh\nexec {python} "$@"\n'
        fake = ROOT / "tests" / "support" / "fake_run.py"
        python.write_text(
            start.format(seconds=self.seconds, python=sys.executable, fake=fake)
        )
        python.chmod(0o755)
        environment = {
            **os.environ,
            "PYTHON": str(python),
            "CUDA_VISIBLE_DEVICES": "",
            **changes,
        }
        arguments = [SCRIPT, "--runs", str(self.runs), *arguments]
        return {"args": arguments, "env": environment, "cwd": self.folder}

    def run(self, *arguments, timeout=120, **changes):
        command = self.command(arguments, changes)
        return subprocess.run(
            **command,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=timeout,
        )

    def start(self, *arguments, **kwargs):
        command = self.command(arguments, {})
        kwargs = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **kwargs}
        return subprocess.Popen(**command, **kwargs, start_new_session=True)

    def names(self, path=ROOT / DEMO):
        return [row.run for row in grid.read(path)]

    def started(self):
        """What completed runs wrote about themselves."""
        path = self.runs / "started"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def locks(self):
        return list(self.runs.glob("*/lock"))

    def pids_of_jobs(self):
        """Processes that train in this sweep's folder."""
        found = []
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            wanted = f"--model_dir={self.runs}".encode()
            programs = (b"fake_run.py", b"deepncm_tf.cifar_main")
            is_run = any(word.endswith(programs) for word in words)
            if is_run and any(word.startswith(wanted) for word in words):
                found.append(int(process.name))
        return sorted(found)

    def kill_driver(self, driver):
        """Kills the script and GNU Parallel, but not their jobs."""
        command = ["ps", "-o", "pid=,comm=", "-s", str(driver.pid)]
        children = subprocess.run(command, capture_output=True, text=True).stdout.split(
            "\n"
        )
        for line in filter(None, children):
            pid, name = line.split(maxsplit=1)
            if name.startswith(("parallel", "perl", "run_experiments")):
                with contextlib.suppress(ProcessLookupError):  # it may have ended since
                    os.kill(int(pid), signal.SIGKILL)
        driver.wait(10)


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def find_sshd():
    return shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin")
