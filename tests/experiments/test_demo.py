# SPDX-License-Identifier: Apache-2.0
"""The demo grid, really trained: a sweep that was disturbed ends as an undisturbed one."""

import os
import shutil
import signal
import time

import pytest
from sweeping import DEMO, Sweep, needs_parallel, wait_until

pytestmark = [pytest.mark.slow, needs_parallel]


def test_killed_and_resumed_sweeps_give_the_same_table(tmp_path, capsys):
    calm, disturbed = (Sweep(tmp_path / name, fake=False) for name in ("calm", "disturbed"))
    began = time.monotonic()
    undisturbed = calm.run(DEMO, timeout=600)
    assert undisturbed.returncode == 0, undisturbed.stderr
    with capsys.disabled():
        print(f"\n{undisturbed.stdout}demo.tsv took {time.monotonic() - began:.0f} s")

    names = disturbed.names()
    (disturbed.runs / names[4]).mkdir(parents=True)
    (disturbed.runs / names[4] / "notes").touch()  # not a run's folder: the row fails
    driver = disturbed.start(DEMO)
    wait_until(lambda: (disturbed.runs / names[0] / "metrics.jsonl").exists(), 120)
    os.kill(disturbed.pids_of_jobs()[0], signal.SIGKILL)
    wait_until(lambda: len(list(disturbed.runs.glob("*/result.json"))) == 2, 240)
    disturbed.kill_driver(driver)

    failing = disturbed.run(DEMO, timeout=600)
    assert failing.returncode == 1
    assert f"{names[4]}: failed" in failing.stderr
    assert "--model_dir must be empty or hold a run" in failing.stderr
    shutil.rmtree(disturbed.runs / names[4])
    last = disturbed.run(DEMO, timeout=600)
    assert last.returncode == 0, last.stderr
    ours, theirs = (sweep.runs / "demo.results.md" for sweep in (disturbed, calm))
    assert ours.read_text() == theirs.read_text()
    for name in names:
        ours, theirs = (sweep.runs / name / "result.json" for sweep in (disturbed, calm))
        assert ours.read_text() == theirs.read_text()
