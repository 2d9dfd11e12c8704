# SPDX-License-Identifier: Apache-2.0
"""One job of a sweep, as GNU Parallel starts it: takes its share of the machine.

    python -m experiments.job --jobs=4 --ncm=decay --decay= --model_dir=runs/name

Flags without a value are left out; the process becomes that of `cifar_main`, or with
--decoder that of `segmentation_main`.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

from deepncm_tf import runs
from deepncm_tf.utils import environment, locks

TRAIN = ("-m", "deepncm_tf.cifar_main")
SEGMENT = ("-m", "deepncm_tf.segmentation_main")


def main(argv):
    jobs = int(argv[0].removeprefix("--jobs="))
    given = [argument for argument in argv[1:] if argument.partition("=")[2]]
    os.dup2(1, 2)  # one log, in order; standard error stays GNU Parallel's
    slot = int(os.environ.get("PARALLEL_JOBSLOT", "1"))
    variables = {**environment.as_given(), **share(slot, jobs, gpus())}
    wait_for(pathlib.Path(given[-1].removeprefix("--model_dir=")))
    program = SEGMENT if any(g.startswith("--decoder=") for g in given) else TRAIN
    command = [sys.executable, *program, *given]
    os.execve(sys.executable, command, variables)


def gpus():
    """Names of the GPUs that the caller may use, in order."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        names = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
        return [name.strip() for name in names if name.strip() not in ("", "-1")]
    try:
        query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        return subprocess.run(
            query, capture_output=True, text=True, check=True
        ).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return []


def cores():
    return len(os.sched_getaffinity(0))


def share(slot, jobs, gpus, claim=None):
    """Environment that gives a job its part of the machine.

    Slots count over all machines of a sweep, so that two jobs on one machine can have slots
    that mean the same GPU: a lock on each GPU tells them apart.

    Args:
        slot: GNU Parallel's number of the slot, from 1.
        jobs: Number of jobs that run at once on this machine.
        gpus: List of the names of GPUs; without any, cores are split evenly.
        claim: Function that tries to take a GPU for as long as this process lives.

    Returns:
        Dictionary of environment variables.
    """
    if not gpus:
        threads = max(1, cores() // jobs)
        return {
            "TF_NUM_INTRAOP_THREADS": os.environ.get("TF_NUM_INTRAOP_THREADS", str(threads))
        }
    first = (slot - 1) % len(gpus)
    in_turn = [*gpus[first:], *gpus[:first]]
    free = (gpu for gpu in in_turn if (claim or claim_gpu)(gpu))
    # With more slots than GPUs they are shared, and nobody may take all of the memory.
    return {
        "CUDA_VISIBLE_DEVICES": next(free, in_turn[0]),
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }


def claim_gpu(gpu):
    """Locks a GPU for this process; false where another job holds it."""
    name = f"deepncm_tf-{os.getuid()}-gpu-{gpu.replace('/', '_')}.lock"
    lock = os.open(
        pathlib.Path(tempfile.gettempdir()) / name, os.O_RDWR | os.O_CREAT, 0o600
    )
    if not locks.try_lock(lock):
        os.close(lock)
        return False
    os.set_inheritable(lock, True)  # held by the program that this process becomes
    return True


def wait_for(folder):
    """Waits while another process trains in the folder, whose driver was killed."""
    if not (folder / runs.LOCK).exists():
        return
    with (folder / runs.LOCK).open("a+") as lock:
        if not locks.try_lock(lock):
            lock.seek(0)
            print(f"{folder} is in use by {lock.read().strip()}; waits for it", flush=True)
            locks.wait_for_lock(lock)


if __name__ == "__main__":
    main(sys.argv[1:])
