# SPDX-License-Identifier: Apache-2.0
"""The command line of cifar_main: its help, and what it refuses."""

import io
import re
import subprocess
import sys

import pytest
from absl import flags as absl_flags

from deepncm_tf import cifar_main, flags
from deepncm_tf.flags import topics
from deepncm_tf.runs.command_line import CommandLine


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "deepncm_tf.cifar_main", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_help():
    outcome = command("--help")
    assert outcome.returncode == 0
    assert not outcome.stderr
    for flag in flags.FLAGS:
        assert f"  --{'[no]' if flag.kind is bool else ''}{flag.name}:" in outcome.stdout
    assert "python -m deepncm_tf.cifar_main --ncm=decay" in outcome.stdout


def test_help_is_grouped_by_topic_and_method(capsys):
    with pytest.raises(SystemExit):
        cifar_main.parse(["cifar_main", "--help"])
    printed = capsys.readouterr().out
    titles = [
        "The method:",
        "The data:",
        "The machine:",
        "Of --ncm=decay:",
        "Of --ncm=dnc:",
    ]
    places = [printed.index(f"\n{title}\n") for title in titles]
    assert places == sorted(places)
    of_dnc = printed[places[-1] :].partition("\nOf --ncm=nca:")[0]
    assert set(re.findall(r"^  --(\w+):", of_dnc, flags=re.MULTILINE)) == {
        flag.name for flag in flags.FLAGS if flag.method == "dnc"
    }


@pytest.mark.parametrize("task", flags.PROGRAMS)
def test_each_flag_has_a_topic_or_a_method(task):
    groups = dict(topics.groups(task))
    named = [name for names in groups.values() for name in names]
    assert sorted(named) == sorted(flag.name for flag in flags.of_task(task))
    assert groups["The training"][0] == "train_epochs"
    assert topics.OTHERS not in groups


def test_help_and_bad_flags_do_not_import_tensorflow():
    code = (
        "import sys; from deepncm_tf import cifar_main; import deepncm_tf; "
        "sys.exit(bool({'tensorflow', 'keras', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--decay=1.2"], "--decay must be a number in [0, 1). Received: --decay=1.2"),
        (["--decay=high"], "high"),
        (["--learnin_rate=1"], "Unknown command line flag 'learnin_rate'"),
        (["decay"], "Arguments must be flags, --name=value. Received: decay"),
    ],
)
def test_bad_command_lines(arguments, message):
    outcome = command(*arguments)
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("cifar_main: ")
    assert message in outcome.stderr
    assert len(outcome.stderr.splitlines()) <= 4


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "name", [flag.name for flag in flags.FLAGS if flag.kind in (int, float, bool)]
)
def test_wrong_types(name, capsys):
    with pytest.raises(SystemExit) as status:
        cifar_main.parse(["cifar_main", f"--{name}=much"])
    assert status.value.code == 2
    error = capsys.readouterr().err
    assert name in error
    assert "much" in error


@pytest.mark.bad_input
def test_unwritable_model_dir(tmp_path):
    (tmp_path / "file").touch()
    outcome = command("--dataset=digits", f"--model_dir={tmp_path / 'file' / 'run'}")
    assert outcome.returncode == 1
    assert "--model_dir must be a folder that can be written" in outcome.stderr


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_cannot_be_printed_ends_no_program(encoding, monkeypatch):
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding))
    CommandLine("program", "", absl_flags.FlagValues()).parse(["program"])
    print("a\udcff", flush=True)
    assert printed.getvalue() == b"a?\n"
