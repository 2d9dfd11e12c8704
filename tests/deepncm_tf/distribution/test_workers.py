# SPDX-License-Identifier: Apache-2.0
"""Real processes on this machine under MultiWorkerMirroredStrategy."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from deepncm_tf.distribution import strategies

WORKER = pathlib.Path(__file__).parents[2] / "support" / "worker.py"
TIMES = {"seconds", "images_per_second"}


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def tf_config(addresses, index):
    """What describes a worker of a job to TensorFlow."""
    cluster, task = {"worker": addresses}, {"type": "worker", "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


def slurm(addresses, index):
    """What Slurm sets for a task on one node; its resolver chooses the ports."""
    return {
        "SLURM_PROCID": str(index),
        "SLURM_STEP_NUM_TASKS": str(len(addresses)),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_TASKS_PER_NODE": str(len(addresses)),
    }


def start(folder, count, method="condensation", die_at=0, described=tf_config):
    """Starts the workers of a job, the last of which dies in a step; returns them."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    workers = []
    for index in range(count):
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
        strategy = "one_device"
        if count > 1:
            strategy = "multi_worker_mirrored"
            environment.update(described(addresses, index))
        command = [
            *(sys.executable, WORKER, folder / f"weights-{index}.npz"),
            die_at if index == count - 1 else 0,
            "--dataset=digits",
            f"--ncm={method}",
            "--train_epochs=2",
            f"--distribution_strategy={strategy}",
            f"--model_dir={folder / 'run'}",
        ]
        workers.append(
            subprocess.Popen(
                [str(part) for part in command],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return workers


def finish(workers, timeout=180):
    """Waits for the workers; returns their exit statuses and what they said."""
    try:
        said = [worker.communicate(timeout=timeout) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    return [worker.returncode for worker in workers], [err for _, err in said]


def job(folder, count, **kwargs):
    folder.mkdir(exist_ok=True)
    statuses, said = finish(start(folder, count, **kwargs))
    assert statuses == [0] * count, said
    return [list(np.load(folder / f"weights-{i}.npz").values()) for i in range(count)]


def metrics(folder):
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return [{k: v for k, v in entry.items() if k not in TIMES} for entry in entries]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    (weights,) = job(folder, 1)
    return weights, metrics(folder)


def assert_same_as(one_process, weights, folder):
    expected, entries = one_process
    for a, b in zip(expected, weights[0], strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-9)
    for other in weights[1:]:
        for a, b in zip(weights[0], other, strict=True):
            np.testing.assert_array_equal(b, a)
    for expected, actual in zip(entries, metrics(folder), strict=True):
        assert set(actual) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(actual[name], value, rtol=1e-9, err_msg=name)


@pytest.mark.thorough
def test_three_workers_equal_one_process(tmp_path, one_process):
    count = 3  # two are compared below, after a death and under Slurm
    weights = job(tmp_path, count)
    assert_same_as(one_process, weights, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "run",
        *(f"weights-{i}.npz" for i in range(count)),
    }


@pytest.mark.thorough
def test_workers_under_slurm(tmp_path, one_process):
    weights = job(tmp_path, 2, described=slurm)
    assert_same_as(one_process, weights, tmp_path)


@pytest.mark.thorough
def test_workers_have_the_same_bank(tmp_path):
    first, second = job(tmp_path, 2, method="nca")
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(b, a)


@pytest.mark.slow
def test_a_worker_that_dies(tmp_path, one_process):
    """The others say so within the bound; started again, the job ends as it should."""
    statuses, said = finish(start(tmp_path, 2, die_at=14))
    assert statuses[1] == -9
    assert statuses[0] == 1, said[0]
    assert "cifar_main: Lost another worker" in said[0]
    assert len(metrics(tmp_path)) == 1
    assert_same_as(one_process, job(tmp_path, 2), tmp_path)


@pytest.mark.bad_input
def test_workers_that_nothing_describes(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(ValueError, match=r"TF_CONFIG.*Received: neither"):
        strategies.get_strategy("multi_worker_mirrored")
