# SPDX-License-Identifier: Apache-2.0
"""Pairs of runs with the same seed, and the interval of their differences."""

import json

import pytest
from finished import write_run
from scipy import stats

from deepncm_tf import flags
from experiments import compare

ACCURACIES = {"softmax": (0.5, 0.6, 0.75), "online": (0.52, 0.61, 0.79), "decay": (0.4,)}
DIFFERENCES = (2.0, 1.0, 4.0)  # points of online and softmax


@pytest.fixture
def command(tmp_path):
    """Arguments that name a grid and a folder with its runs."""
    lines = ["dataset\tncm\ttrain_epochs\tseed\n"]
    for method, accuracies in ACCURACIES.items():
        for seed, accuracy in enumerate(accuracies):
            values = {"dataset": "digits", "ncm": method, "train_epochs": 2, "seed": seed}
            lines.append("\t".join(map(str, values.values())) + "\n")
            write_run(tmp_path / f"{method}-{seed}", flags.resolve(values), accuracy)
    (tmp_path / "grid.tsv").write_text("".join(lines))

    def arguments(first, second, *others):
        folders = ["--folders", str(tmp_path)]
        return [str(tmp_path / "grid.tsv"), first, second, *others, *folders]

    return arguments


def said(command, capsys, *arguments):
    compare.main(command(*arguments))
    return capsys.readouterr().out.splitlines()


def test_pairs_and_their_interval(command, capsys):
    lines = said(command, capsys, "ncm==online", "ncm==softmax")
    assert lines[2:5] == [
        "| 0 | 52.00 | 50.00 | +2.00 |",
        "| 1 | 61.00 | 60.00 | +1.00 |",
        "| 2 | 79.00 | 75.00 | +4.00 |",
    ]
    expected = stats.ttest_1samp(DIFFERENCES, 0).confidence_interval(0.95)
    assert compare.interval(DIFFERENCES) == pytest.approx(tuple(expected))
    assert lines[-1] == (
        "+2.33 points, 3 pairs of runs, "
        f"95 % interval {expected.low:+.2f} to {expected.high:+.2f}  (final_test_accuracy)"
    )


def test_two_figures_of_the_same_runs(command, capsys, tmp_path):
    for seed, share in enumerate((0.4, 0.55, 0.7)):
        path = tmp_path / f"softmax-{seed}" / "evaluation.json"
        path.write_text(json.dumps({"anchored_accuracy": share}))
    figures = ("--figure=anchored_accuracy", "--second_figure=final_test_accuracy")
    lines = said(command, capsys, "ncm==softmax", "ncm==softmax", *figures)
    assert lines[2] == "| 0 | 40.00 | 50.00 | -10.00 |"
    assert lines[-1].startswith("-6.67 points, 3 pairs of runs")
    assert lines[-1].endswith("(anchored_accuracy - final_test_accuracy)")


def test_seeds_of_one_alone_are_left_out(command, capsys):
    lines = said(command, capsys, "ncm==decay", "ncm==softmax")
    assert lines[2:] == [
        "| 0 | 40.00 | 50.00 | -10.00 |",
        "",
        "-10.00 points, 1 pair of runs  (final_test_accuracy)",
    ]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ncm==lda", "ncm==softmax"), "first selects none of 7 rows.*first=ncm==lda"),
        (("ncm==decay", "ncm=softmax"), "second must be FLAG==VALUE.*second=ncm=softmax"),
        (("ncm==decay", "ncm!=decay"), "one run of a seed.*seed 0 has more than one"),
        (("ncm==decay", "ncm==softmax", "--figure=x"), "--figure must be.*--figure=x"),
        (("seed==1", "ncm==decay"), "one run of a seed"),
        (("ncm==decay", "ncm==online", "--only=seed==1"), "first selects none of 2 rows"),
    ],
)
def test_bad_input(command, arguments, message):
    with pytest.raises(SystemExit, match=f"^compare: .*{message}"):
        compare.main(command(*arguments))


def test_no_seed_in_common():
    with pytest.raises(ValueError, match=r"seeds \[0\] and \[1\]"):
        compare.markdown({0: 0.5}, {1: 0.5})
