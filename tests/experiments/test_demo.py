# SPDX-License-Identifier: Apache-2.0
"""Runs really trained: a sweep that was disturbed ends as an undisturbed one."""

import os
import shutil
import signal

import pytest
from sweeping import Sweep, needs_parallel, wait_until

pytestmark = [pytest.mark.thorough, needs_parallel]
# Three of demo.tsv's rows, with fewer epochs.
GRID = """dataset	ncm	decay	condensation_steps	train_epochs
digits	softmax			3
digits	condensation		10	3
digits	decay	0.5		3
"""


def test_killed_and_resumed_sweeps_give_the_same_table(tmp_path):
    path = tmp_path / "grid.tsv"
    path.write_text(GRID)
    calm, disturbed = (Sweep(tmp_path / name, fake=False) for name in ("calm", "disturbed"))
    undisturbed = calm.run(path, timeout=600)
    assert undisturbed.returncode == 0, undisturbed.stderr

    names = disturbed.names(path)
    (disturbed.runs / names[2]).mkdir(parents=True)
    (disturbed.runs / names[2] / "notes").touch()  # not a run's folder: the row fails
    driver = disturbed.start(path)
    wait_until(lambda: (disturbed.runs / names[0] / "metrics.jsonl").exists(), 120)
    os.kill(disturbed.pids_of_jobs()[0], signal.SIGKILL)
    wait_until(lambda: len(list(disturbed.runs.glob("*/result.json"))) == 1, 240)
    disturbed.kill_driver(driver)

    failing = disturbed.run(path, timeout=600)
    assert failing.returncode == 1
    assert f"{names[2]}: failed" in failing.stderr
    assert "--model_dir must be empty or hold a run" in failing.stderr
    shutil.rmtree(disturbed.runs / names[2])
    last = disturbed.run(path, timeout=600)
    assert last.returncode == 0, last.stderr
    ours, theirs = (sweep.runs / "grid.results.md" for sweep in (disturbed, calm))
    assert ours.read_text() == theirs.read_text()
    for name in names:
        ours, theirs = (sweep.runs / name / "result.json" for sweep in (disturbed, calm))
        assert ours.read_text() == theirs.read_text()
