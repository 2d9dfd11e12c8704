# SPDX-License-Identifier: Apache-2.0
"""`run_experiments.sh` with the real GNU Parallel and runs that train nothing."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from sweeping import DEMO, ROOT, Sweep, needs_parallel, wait_until

from experiments import sweep as experiments_sweep

PAPER_32 = "experiments/paper.tsv"


@needs_parallel
def test_a_sweep_runs_what_is_left_and_prints_the_table(sweep):
    first = sweep.run("experiments/demo.tsv", "--only", "ncm==decay")
    assert first.returncode == 0, first.stderr
    assert "2 runs: 2 done, 0 running, 0 failed, 0 left" in first.stdout
    everything = sweep.run("experiments/demo.tsv")
    assert everything.returncode == 0, everything.stderr
    assert len(sweep.started()) == 6  # the first two once
    table = (sweep.runs / "demo.results.md").read_text()
    assert table in everything.stdout
    assert table.count("\n| ") == 6
    records = json.loads((sweep.runs / "demo.results.json").read_text())
    assert {record["ncm"] for record in records} == {
        "softmax",
        "online",
        "condensation",
        "decay",
    }
    (sweep.runs / "demo.joblog").unlink()  # a lost log costs nothing
    assert sweep.run("experiments/demo.tsv").returncode == 0
    assert len(sweep.started()) == 6


@needs_parallel
@pytest.mark.slow
def test_disturbed_sweeps_end_as_undisturbed_ones(sweep, tmp_path):
    calm = Sweep(tmp_path / "calm")
    assert calm.run("experiments/demo.tsv").returncode == 0

    sweep.seconds = 2.0
    driver = sweep.start("experiments/demo.tsv", "--jobs", "3")
    wait_until(lambda: len(sweep.locks()) == 2)
    pids = sweep.pids_of_jobs()
    os.kill(pids[0], signal.SIGKILL)  # one job
    wait_until(lambda: len(sweep.started()) == 1)
    sweep.kill_driver(driver)  # whose other jobs live on
    failing = sweep.names()[5]
    (sweep.runs / f"fail-{failing}").touch()

    second = sweep.run("experiments/demo.tsv", "--jobs", "3")
    assert second.returncode == 1
    assert "6 runs: 5 done, 0 running, 1 failed, 0 left" in second.stdout
    assert f"{failing}: failed\n" in second.stderr
    assert "    fake_run: out of luck" in second.stderr

    (sweep.runs / f"fail-{failing}").unlink()
    last = sweep.run("experiments/demo.tsv")
    assert last.returncode == 0, last.stderr
    assert sorted(entry["run"] for entry in sweep.started()) == sorted(sweep.names())
    for name in ("demo.results.md", "demo.results.tsv"):
        assert (sweep.runs / name).read_text() == (calm.runs / name).read_text()


@needs_parallel
def test_a_stopped_driver_stops_its_jobs(sweep):
    sweep.seconds = 60
    driver = sweep.start("experiments/demo.tsv")
    wait_until(lambda: len(sweep.locks()) == 2)
    os.killpg(driver.pid, signal.SIGINT)
    driver.wait(30)
    wait_until(lambda: not sweep.pids_of_jobs())


@needs_parallel
@pytest.mark.slow
def test_each_job_has_a_gpu_of_the_callers_list(sweep):
    sweep.seconds = 1.5
    assert sweep.run("experiments/demo.tsv", CUDA_VISIBLE_DEVICES="3,5").returncode == 0
    by_gpu = {"3": [], "5": []}
    for entry in sweep.started():
        by_gpu[entry["CUDA_VISIBLE_DEVICES"]].append((entry["begin"], entry["end"]))
    for times in by_gpu.values():
        assert times  # both are used, each by one job at a time
        ends = [end for _, end in sorted(times)]
        begins = [begin for begin, _ in sorted(times)][1:]
        assert all(begin >= end for end, begin in zip(ends, begins, strict=False))


@needs_parallel
@pytest.mark.slow
def test_two_machines_share_the_work(sweep, sshd):
    sweep.seconds = 1.5
    machines = sweep.folder / "machines"
    machines.write_text("".join(f"2/{ssh}\n" for ssh in sshd))
    done = sweep.run(
        "experiments/demo.tsv",
        "--jobs",
        "2",
        "--sshloginfile",
        str(machines),
        CUDA_VISIBLE_DEVICES="",
    )
    assert done.returncode == 0, done.stderr
    assert sorted(entry["run"] for entry in sweep.started()) == sorted(sweep.names())
    hosts = {
        line.split("\t")[1]
        for line in (sweep.runs / "demo.joblog").read_text().splitlines()
        if "experiments.job" in line
    }
    assert len(hosts) == 2


def test_status_and_dry_run_start_nothing(sweep):
    status = sweep.run(PAPER_32, "--status", "--only", "dataset==cifar100")
    assert status.returncode == 0
    assert "12 runs: 0 done, 0 running, 0 failed, 12 left" in status.stdout
    assert f"tensorboard --logdir '{sweep.runs}'" in status.stdout
    dry = sweep.run("experiments/demo.tsv", "--dry-run")
    assert dry.returncode == 0
    assert len(dry.stdout.splitlines()) == 6
    assert re.match(
        r"python -m deepncm_tf.cifar_main --dataset=digits --ncm=softmax ", dry.stdout
    )
    assert not sweep.runs.exists()


def test_watching_ends_when_all_are_done(sweep):
    grid = sweep.folder / "one.tsv"
    grid.write_text("ncm\tdataset\nsoftmax\tdigits\n")
    watch = sweep.start(str(grid), "--watch", "1", stdout=subprocess.PIPE, text=True)
    wait_until(lambda: "1 left" in watch.stdout.readline())
    fake = ROOT / "tests/support/fake_run.py"
    folder = sweep.runs / sweep.names(str(grid))[0]
    sweep.runs.mkdir()
    arguments = ["--ncm=softmax", "--dataset=digits", f"--model_dir={folder}"]
    subprocess.run([sys.executable, str(fake), *arguments], check=True)
    out, _ = watch.communicate(timeout=30)
    assert "1 runs: 1 done" in out
    assert watch.returncode == 0


def test_the_plan_makes_a_job_log_that_was_cut_short_one_to_go_on_with(tmp_path):
    (tmp_path / "demo.joblog").write_text("Seq\tHost\n1\t:")
    experiments_sweep.main(["plan", str(ROOT / DEMO), f"--runs={tmp_path}"])
    assert (tmp_path / "demo.joblog").read_text() == "Seq\tHost\n"
    assert (tmp_path / "logs").is_dir()
