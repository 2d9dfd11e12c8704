# SPDX-License-Identifier: Apache-2.0
"""What a sweep says about its runs."""

import fcntl
import json

import pytest
from finished import write_run

from experiments import collect, grid, states


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "grid.tsv"
    lines = [
        "dataset\tncm\ttrain_epochs",
        *(f"digits\t{m}\t4" for m in ("softmax", "online")),
    ]
    lines.append("cifar10\tsoftmax\t4")
    path.write_text("\n".join(lines) + "\n")
    return grid.read(path)


def find(rows, folder, exit_values=None, finished=None):
    return states.find(rows, folder, finished or {}, exit_values or {})


def statuses(*args, **kwargs):
    return [state.status for state in find(*args, **kwargs)]


def test_a_run_is_done_where_its_result_is(rows, tmp_path):
    assert statuses(rows, tmp_path) == ["left", "left", "left"]
    write_run(tmp_path / rows[0].run, rows[0].config)
    # Whatever the log says; a failure without a result is one.
    found = find(rows, tmp_path, {rows[0].run: 1, rows[1].run: 1, rows[2].run: 0})
    assert [state.status for state in found] == ["done", "failed", "left"]
    assert states.summary(found).startswith("3 runs: 1 done, 0 running, 1 failed, 1 left")


def test_a_result_of_another_run_is_not_its_own(rows, tmp_path):
    write_run(tmp_path / rows[0].run, rows[1].config)
    assert statuses(rows, tmp_path) == ["left", "left", "left"]


def test_results_elsewhere_count(rows, tmp_path):
    write_run(tmp_path / "kept" / "some name", rows[1].config)
    finished = collect.finished(tmp_path / "kept")
    found = find(rows, tmp_path / "runs", finished=finished)
    assert [state.status for state in found] == ["left", "done", "left"]
    assert found[1].folder == tmp_path / "kept" / "some name"


def test_a_locked_run_is_running(rows, tmp_path):
    folder = tmp_path / rows[2].run
    folder.mkdir()
    with (folder / "lock").open("w") as lock:
        assert statuses(rows, tmp_path)[2] == "left"
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert statuses(rows, tmp_path)[2] == "running"


def test_damaged_files_count_as_not_there(rows, tmp_path):
    folder = write_run(tmp_path / rows[0].run, rows[0].config)
    (folder / "result.json").write_text("{")
    (folder / "metrics.jsonl").write_text('{"epoch": 1}\n{"ep')
    assert find(rows, tmp_path)[0].status == "left"
    assert find(rows, tmp_path)[0].entries == []


def test_time_left(rows, tmp_path):
    assert states.seconds_left(find(rows, tmp_path)) is None
    write_run(tmp_path / rows[0].run, rows[0].config, seconds=10)
    folder = tmp_path / rows[1].run
    folder.mkdir()
    entries = [{"epoch": 1, "seconds": 20}]
    (folder / "metrics.jsonl").write_text(json.dumps(entries[0]) + "\n")
    # Digits take (4 * 10 + 20) / 5 = 12 s an epoch; CIFAR is not known: the same.
    assert states.seconds_left(find(rows, tmp_path)) == pytest.approx((3 + 4) * 12)
    locks = [(tmp_path / row.run) for row in rows[1:]]
    opened = []
    for lock in locks:
        lock.mkdir(exist_ok=True)
        opened.append((lock / "lock").open("w"))
        fcntl.flock(opened[-1], fcntl.LOCK_EX)
    assert states.seconds_left(find(rows, tmp_path)) == pytest.approx(7 * 12 / 2)
    assert "about 42 s to go" in states.summary(find(rows, tmp_path))
    for lock in opened:
        lock.close()
    for row in rows:
        write_run(tmp_path / row.run, row.config)
    assert states.seconds_left(find(rows, tmp_path)) is None
    assert states.summary(find(rows, tmp_path)).endswith(
        "3 done, 0 running, 0 failed, 0 left"
    )


def test_runs_of_fewer_steps_have_fewer_epochs(tmp_path):
    path = tmp_path / "grid.tsv"
    path.write_text(
        "dataset\tncm\ttrain_epochs\tmax_train_steps\n"
        + "".join(f"digits\t{m}\t200\t70\n" for m in ("softmax", "online"))
    )
    rows = grid.read(path)
    assert "0/200" in states.table(find(rows, tmp_path))  # no epoch has told its steps yet
    folder = write_run(tmp_path / rows[0].run, rows[0].config)
    entries = [{"epoch": e, "step": s, "seconds": 10} for e, s in ((1, 45), (2, 70))]
    lines = "".join(json.dumps(entry) + "\n" for entry in entries)
    (folder / "metrics.jsonl").write_text(lines)
    found = find(rows, tmp_path)
    assert [line.split()[2] for line in states.table(found).splitlines()[1:]] == [
        "2/2",
        "0/2",
    ]
    assert states.seconds_left(found) == pytest.approx(20)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(119, "119 s"), (150, "2 min"), (7200, "2 h 00"), (9000, "2 h 30")],
)
def test_durations(seconds, text):
    assert text in states._duration(seconds)


def test_the_table_shows_the_last_evaluation(rows, tmp_path):
    write_run(tmp_path / rows[0].run, rows[0].config, accuracy=0.5)
    lines = states.table(find(rows, tmp_path)).splitlines()
    assert lines[1].split() == [rows[0].run, "done", "4/4", "50.00%"]
    assert lines[2].split() == [rows[1].run, "left", "0/4"]


def test_the_job_log(tmp_path):
    assert states.read_job_log(tmp_path / "nowhere") == {}
    path = tmp_path / "joblog"
    line = "{}\t:\t1.0\t 2.0\t0\t0\t{}\t{}\tpython job.py {}'--model_dir=runs/{}'\n"
    header = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"
    path.write_text(
        line.format(1, 1, 0, "", "a_lr=0.1")
        + line.format(2, 0, 9, "--jobs=2 ", "b")
        + header
        + line.format(1, 0, 0, "", "a_lr=0.1")
        + line.format(3, 2, 0, "", "c")
        + line.format("x", "one", "two", "", "d")
        + line.format(5, "9" * 5000, 0, "", "e")
        + line.format(6, 1, 0, "", "f\x85\u2028").replace("runs", "the\x0bruns")
        + line.format(7, 0, 0, "", "seed=10")
        + line.format(8, 1, 0, "", "seed=1")[:-2]  # cut short
    )
    assert states.read_job_log(path) == {
        "a_lr=0.1": 0,
        "b": 9,
        "c": 2,
        "f\x85\u2028": 1,
        "seed=10": 0,
    }


def test_a_job_log_that_was_cut_short_goes_on_at_its_last_whole_line(tmp_path):
    path = tmp_path / "joblog"
    for text in ("", "a\n", "a\nb\n"):
        for rest in ("", "4\t:\t1.0"):
            path.write_text(text + rest)
            states.mend_job_log(path)
            assert path.read_text() == text
    states.mend_job_log(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_last_lines(tmp_path):
    (tmp_path / "log").write_bytes(b"one\n\ntwo\xff\nthree\n\n")
    assert states.last_lines(tmp_path / "log", 2) == ["two\ufffd", "three"]
    assert states.last_lines(tmp_path / "nowhere", 2) == []
