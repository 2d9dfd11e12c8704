# SPDX-License-Identifier: Apache-2.0
"""The script of the sweeps: its options, its help, and what it needs."""

import pathlib
import re
import shutil
import subprocess

import pytest
from sweeping import SCRIPT


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
