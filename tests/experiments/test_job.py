# SPDX-License-Identifier: Apache-2.0
"""A job's share of the machine."""

import fcntl
import os
import subprocess
import sys
import threading
import time

import pytest

from deepncm_tf import runs
from experiments import job


@pytest.mark.parametrize(
    ("cores", "jobs", "threads"), [(8, 2, "4"), (8, 3, "2"), (2, 4, "1")]
)
def test_cores_are_split_evenly(monkeypatch, cores, jobs, threads):
    monkeypatch.setattr(job, "cores", lambda: cores)
    assert job.share(1, jobs, []) == {"TF_NUM_INTRAOP_THREADS": str(threads)}


def test_slots_are_mapped_into_the_callers_gpus():
    def share(slot, taken=()):
        return job.share(slot, 1, ["2", "GPU-7"], lambda gpu: gpu not in taken)

    assert share(1)["CUDA_VISIBLE_DEVICES"] == "2"
    assert share(2)["CUDA_VISIBLE_DEVICES"] == "GPU-7"
    assert share(3)["CUDA_VISIBLE_DEVICES"] == "2"
    # Slots of other machines of the sweep come between: 1 and 3 meet on this one.
    assert share(3, taken=("2",))["CUDA_VISIBLE_DEVICES"] == "GPU-7"
    # More jobs than GPUs: they share.
    assert share(3, taken=("2", "GPU-7"))["CUDA_VISIBLE_DEVICES"] == "2"
    assert share(1)["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"


@pytest.mark.parametrize(
    ("visible", "names"), [("3,5", ["3", "5"]), ("", []), ("-1", []), ("GPU-a", ["GPU-a"])]
)
def test_gpus_are_those_of_the_caller(monkeypatch, visible, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert job.gpus() == names


def test_gpus_are_those_of_the_driver_where_the_caller_names_none(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert job.gpus() == []
    (tmp_path / "nvidia-smi").write_text(f"#!{sys.executable}\nprint(0)\nprint(1)\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert job.gpus() == ["0", "1"]


def is_locked(path):
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_gpu_is_claimed_until_the_process_ends(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(job.tempfile, "tempdir", None)
    code = (
        "import subprocess; from experiments import job; assert job.claim_gpu('7');"
        "subprocess.run(['sleep', '60'], close_fds=False)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    lock = tmp_path / f"deepncm_tf-{os.getuid()}-gpu-7.lock"
    end = time.monotonic() + 30
    while not lock.exists() or not is_locked(lock):
        assert time.monotonic() < end
        assert other.poll() is None
        time.sleep(0.05)
    assert not job.claim_gpu("7")
    os.killpg(other.pid, 9)
    other.wait()
    while not job.claim_gpu("7"):  # its child may live a moment longer
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_job_waits_for_a_run_that_is_under_way(tmp_path, capfd):
    job.wait_for(tmp_path / "new")  # nothing to wait for
    with (tmp_path / runs.LOCK).open("w") as lock:
        lock.write("process 1 on here\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Thread(target=job.wait_for, args=[tmp_path])
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()
    assert f"{tmp_path} is in use by process 1 on here; waits" in capfd.readouterr().out
