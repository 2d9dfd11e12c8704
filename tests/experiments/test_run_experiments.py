# SPDX-License-Identifier: Apache-2.0
"""`run_experiments.sh` with the real GNU Parallel and runs that train nothing."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest
from sweeping import DEMO, ROOT, SCRIPT, Sweep, needs_parallel, wait_until

from experiments import grid
from experiments import sweep as experiments_sweep

PAPER_32 = "experiments/paper.tsv"


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path)


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
def test_values_are_not_evaluated(sweep, tmp_path):
    touch = f"touch {tmp_path}/evaluated"
    value = f"$({touch}) `{touch}`; {touch}; a  'b' \"c\" {{}} \\ * \\$({touch})"
    grid = tmp_path / "odd.tsv"
    grid.write_text(f"dataset\tdata_dir\tncm\ndigits\t{value}\tsoftmax\n")
    assert sweep.run(str(grid)).returncode == 0
    assert [entry["data_dir"] for entry in sweep.started()] == [value]
    assert not (tmp_path / "evaluated").exists()


ODD = " {run} n{1} {= system('touch evaluated') =} $(touch evaluated) `touch evaluated` "
ODD += "; touch evaluated & 'a' \"b\" \\ * ? [x] ~ # % {} {.} {#} {dataset} , \udcff "


@needs_parallel
@pytest.mark.parametrize("name", [ODD, f"-{ODD}", "-x"], ids=["odd", "dash", "option"])
def test_paths_are_data(sweep, tmp_path, name):
    inside = pathlib.Path(os.path.relpath(tmp_path, ROOT))
    grid = tmp_path / f"{name}.tsv"
    text = ODD.replace("\udcff", "").strip() + "{log} {model_dir}"
    grid.write_text(f"dataset\tdata_dir\tncm\ndigits\t{text}\tsoftmax\n")
    machines = tmp_path / f"{name}.machines"
    machines.write_text("1/:\n")
    python = tmp_path / name / "python"
    python.parent.mkdir()
    sweep.command((), {})
    shutil.move(tmp_path / "python", python)
    sweep.runs = tmp_path / name / name
    done = sweep.run(
        str(inside / grid.name),
        "--runs",
        str(inside / name / name),
        "--results",
        str(inside / f"{name}.none"),
        "--sshloginfile",
        str(inside / machines.name),
        PYTHON=str(python),
    )
    assert done.returncode == 0, done.stderr
    assert [entry["data_dir"] for entry in sweep.started()] == [text]
    (run,) = sweep.names(grid)
    assert {path.name for path in sweep.runs.iterdir()} == {
        *(f"{name}.{suffix}" for suffix in ("results.tsv", "results.json", "results.md")),
        *(f"{name}.joblog", "logs", "started", run),
    }
    assert (sweep.runs / "logs" / run).exists()
    assert sweep.run(str(grid), "--status", PYTHON=str(python)).returncode == 0
    for folder in (ROOT, tmp_path, pathlib.Path.home()):
        assert not (folder / "evaluated").exists()


@needs_parallel
@pytest.mark.parametrize("link", [False, True])
def test_a_grid_in_the_folder_of_the_runs_is_kept(sweep, link):
    sweep.runs.mkdir()
    text = "ncm\tdataset\nsoftmax\tdigits\n"
    grid = sweep.runs / "mine.tsv"
    if link:
        (sweep.folder / "elsewhere.tsv").write_text(text)
        grid.symlink_to(sweep.folder / "elsewhere.tsv")
    else:
        grid.write_text(text)
    for _ in range(2):
        assert sweep.run(str(grid)).returncode == 0
    assert grid.read_text() == text
    assert grid.is_symlink() == link
    assert "final_test_accuracy" in (sweep.runs / "mine.results.tsv").read_text()


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


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--job", "2"], "there is no option --job; --help lists them"),
        (["--only", "x", "--jobs"], "--jobs needs a value"),
        (["--jobs", "0"], "--jobs must be an integer from 1 to 9999. Received: 0"),
        (["--jobs", "²"], "--jobs must be an integer from 1 to 9999. Received: ²"),
        (["--jobs", "9" * 20], "--jobs must be an integer from 1 to 9999. Received: 9"),
        (["--watch", "0"], "--watch must be from 1 to 9999 seconds. Received: 0"),
        (["--watch", "9" * 20], "--watch must be from 1 to 9999 seconds. Received: 9"),
        (["--runs", ""], "--runs needs a value"),
        (["--only", ""], "--only needs a value"),
        ([""], "GRID must be a file. Received: ''"),
        (["-x.tsv"], "there is no option -x.tsv; --help lists them"),
        (["experiments"], "Is a directory: 'experiments'"),
        (["--runs", SCRIPT], "--runs must be a folder that can be written ("),
        (["--runs", f"{SCRIPT}/runs"], "--runs must be a folder that can be written ("),
        (["--runs", "a\tb"], "--runs must be a folder's name without tabs and line breaks"),
        (["--runs", "a\nb"], "Received: --runs='a\\nb'"),
        (["--sshloginfile", "nowhere"], "--sshloginfile must be a file. Received: nowhere"),
        (["--sshloginfile", "tests"], "--sshloginfile must be a file. Received: tests"),
        (["a.tsv", "b.tsv"], "GRID must be one file. Received: a.tsv and b.tsv"),
        (["nowhere.tsv"], "The grid must be a tab-separated text file"),
        (["--only", "x"], "--only must be FLAG==VALUE"),
    ],
)
def test_bad_arguments_are_refused(sweep, arguments, message):
    refused = sweep.run("--status", *arguments)  # which would start nothing
    assert refused.returncode != 0
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not sweep.runs.exists()


def test_the_plan_makes_a_job_log_that_was_cut_short_one_to_go_on_with(tmp_path):
    (tmp_path / "demo.joblog").write_text("Seq\tHost\n1\t:")
    experiments_sweep.main(["plan", str(ROOT / DEMO), f"--runs={tmp_path}"])
    assert (tmp_path / "demo.joblog").read_text() == "Seq\tHost\n"
    assert (tmp_path / "logs").is_dir()


@pytest.mark.bad_input
@pytest.mark.parametrize("action", ["plan", "status", "dry-run", "report"])
def test_a_folder_of_runs_that_is_a_file_is_refused(tmp_path, action):
    (tmp_path / "file").write_text("mine")
    for runs in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SystemExit, match="--runs must be a folder that can be written"):
            experiments_sweep.main([action, str(ROOT / DEMO), f"--runs={runs}"])
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["a.results.tsv", "a.results.md", "a.joblog"])
def test_a_grid_is_not_named_as_an_output(tmp_path, name):
    (tmp_path / name).write_text("ncm\tdataset\nsoftmax\tdigits\n")
    with pytest.raises(SystemExit, match=r"GRID must not be named \*\.results\.\* or"):
        experiments_sweep.main(["plan", str(tmp_path / name), f"--runs={tmp_path}"])


@pytest.mark.bad_input
@pytest.mark.parametrize("output", ["g.joblog", "g.results.md", "logs/RUN"])
def test_an_output_that_is_the_grid_is_refused(tmp_path, output):
    path = tmp_path / "g.tsv"
    path.write_text("ncm\tdataset\nsoftmax\tdigits\n")
    output = tmp_path / output.replace("RUN", grid.read(path)[0].run)
    output.parent.mkdir(exist_ok=True)
    output.hardlink_to(path)
    with pytest.raises(SystemExit, match="GRID must be another file than what is written"):
        experiments_sweep.main(["plan", str(path), f"--runs={tmp_path}"])


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("", "GNU Parallel is not installed (moreutils has another program of that name)"),
        ("echo 'parallel: invalid option' >&2; exit 1", "apt-get install parallel"),
        (
            'case $1 in --version) echo "GNU parallel 20161222";; *) exit 255;; esac',
            "GNU Parallel 20221122 or newer is needed. Received: GNU parallel 20161222",
        ),
    ],
    ids=["none", "moreutils", "old"],
)
def test_another_parallel_is_refused(sweep, program, message):
    commands = sweep.folder / "bin"
    commands.mkdir()
    for name in ("bash", "env", "dirname", "head"):
        (commands / name).symlink_to(shutil.which(name))
    if program:
        (commands / "parallel").write_text(f"#!{shutil.which('bash')}\n{program}\n")
        (commands / "parallel").chmod(0o755)
    refused = sweep.run("experiments/demo.tsv", PATH=str(commands))
    assert refused.returncode == 2
    assert message in refused.stderr
    assert not sweep.runs.exists()


@pytest.mark.bad_input
def test_without_the_package_it_says_so(sweep):
    refused = sweep.run("experiments/demo.tsv", PYTHON="/nowhere/python")
    assert refused.returncode == 2
    assert "deepncm_tf is not installed for /nowhere/python" in refused.stderr


def test_the_script_is_clean():
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    checked = subprocess.run(["shellcheck", SCRIPT], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    assert len(pathlib.Path(SCRIPT).read_text().splitlines()) < 80


def test_help_names_every_option():
    shown = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True)
    assert shown.returncode == 0
    options = re.findall(
        r"^ {4}(--[a-z |-]+)\)", pathlib.Path(SCRIPT).read_text(), re.MULTILINE
    )
    names = {name for group in options for name in group.split(" | ")} - {"--"}
    assert len(names) >= 8
    assert [name for name in names if name not in shown.stdout] == []
