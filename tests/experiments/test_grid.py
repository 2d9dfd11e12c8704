# SPDX-License-Identifier: Apache-2.0
"""Reading grids and choosing from them."""

import csv
import pathlib
import re

import pytest

from deepncm_tf import flags
from experiments import grid, published

EXPERIMENTS = pathlib.Path(grid.__file__).parent


def write(tmp_path, text):
    path = tmp_path / "grid.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def settings(rows):
    return {published.setting(row.config) for row in rows}


def test_paper_has_the_published_runs_with_the_published_recipe():
    rows = grid.read(EXPERIMENTS / "paper.tsv")
    assert len(rows) == 32
    assert settings(rows) == set(published.read())
    for row in rows:
        default = flags.resolve(
            {"dataset": row.config["dataset"], "ncm": row.config["ncm"]}
        )
        varied = {"decay", "condensation_steps", "learning_rate", "model_dir"}
        assert {n for n, value in row.config.items() if value != default[n]} <= varied
        assert row.config["resnet_size"] == 32
        assert row.config["train_epochs"] == 250


def test_small_is_paper_with_a_small_network_and_few_epochs():
    paper = grid.read(EXPERIMENTS / "paper.tsv")
    small = grid.read(EXPERIMENTS / "small.tsv")
    for one, other in zip(paper, small, strict=True):
        changed = {n for n, v in one.config.items() if other.config[n] != v} - {"model_dir"}
        assert changed == {"resnet_size", "train_epochs"}
        assert (other.config["resnet_size"], other.config["train_epochs"]) == (8, 6)


def test_methods_shares_its_first_seed_with_small():
    small = {row.run for row in grid.read(EXPERIMENTS / "small.tsv")}
    methods = grid.read(EXPERIMENTS / "methods.tsv", "ncm!=dnc and ncm!=nca")
    assert len(methods) == 24
    assert {row.run for row in methods if row.config["seed"] == 0} <= small
    assert len({row.run for row in methods} - small) == 16
    best = published.read()
    for row in methods:
        dataset, method, _, _ = where = published.setting(row.config)
        same = [best[one]["final"] for one in best if one[:2] == (dataset, method)]
        assert best[where]["final"] == max(same)


def test_demo_is_offline():
    rows = grid.read(EXPERIMENTS / "demo.tsv")
    assert len(rows) == 6
    assert {row.config["dataset"] for row in rows} == {"digits"}


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.tsv")), ids=lambda p: p.stem)
def test_every_table_is_rectangular(path):
    with path.open(newline="") as file:
        assert len({len(row) for row in csv.reader(file, delimiter="\t")}) == 1


def test_blank_cells_are_defaults(tmp_path):
    path = write(tmp_path, "ncm\tdecay\tseed\ndecay\t\t3\n\nsoftmax\t\t\n")
    rows = grid.read(path)
    assert [row.cells for row in rows] == [
        {"ncm": "decay", "seed": "3"},
        {"ncm": "softmax"},
    ]
    assert [row.line for row in rows] == [2, 4]
    assert rows[0].config["decay"] == 0.9
    assert rows[0].command("runs/a b") == (
        "python -m deepncm_tf.cifar_main --ncm=decay --seed=3 '--model_dir=runs/a b'"
    )


PLAIN = "ncm\tdecay\tdata_dir\ndecay\t0.5\t/a b\nsoftmax\t\t\n"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        "\ufeff" + PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace("\n", "\t\n"),
        PLAIN.replace("\n", "\t \t\u00a0\n"),
        PLAIN.replace("\t", " \t\u00a0").replace("\n", " \u3000\n"),
        PLAIN + "\t\t\n\t\n \u00a0\n\n",
        PLAIN.replace("ncm", '"ncm"').replace("0.5", '"0.5"').replace("/a b", '" /a b "'),
        PLAIN.replace("softmax\t\t", "softmax\t\u00a0\t\ufeff\u200b"),
        PLAIN.rstrip("\n"),
    ],
    ids=[
        "plain",
        "BOM",
        "CRLF",
        "CR",
        "a tab at the end",
        "empty columns",
        "spaces",
        "empty rows",
        "quoted",
        "invisible",
        "no last line end",
    ],
)
def test_what_spreadsheets_write_is_the_same_grid(tmp_path, text):
    (tmp_path / "grid.tsv").write_bytes(text.encode())
    rows = grid.read(tmp_path / "grid.tsv")
    assert [(row.line, row.cells) for row in rows] == [
        (2, {"ncm": "decay", "decay": "0.5", "data_dir": "/a b"}),
        (3, {"ncm": "softmax"}),
    ]


def test_quotes_in_cells(tmp_path):
    path = write(tmp_path, 'data_dir\tseed\n"say ""a"""\t0\na "b"\t1\n')
    assert [row.cells["data_dir"] for row in grid.read(path)] == ['say "a"', 'a "b"']


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "grid.tsv:1: columns must be flags of cifar_main"),
        ("ncm\tmodel_dir\n", "Received: 'model_dir'"),
        ("ncm\tlr\n", "Received: 'lr'"),
        ("ncm\tncm\n", "the column ncm is there twice"),
        ("ncm\n", "a row below the header. Received none"),
        ("ncm\tseed\nsoftmax\n", "grid.tsv:2: a row must have 2 cells"),
        ("ncm\tseed\nsoftmax\t1\t2\n", "Received: 3"),
        ("ncm\tseed\nsoftmax\tx\n", r"grid.tsv:2: --seed must be an integer in [0, 2**31)"),
        ("ncm\tdecay\nsoftmax\t0.5\n", "--decay belongs to --ncm=decay"),
        ("ncm\nsoftmax\nsvm\n", "grid.tsv:3: --ncm must be one of softmax"),
        ("ncm\tseed\nsoftmax\t0\nsoftmax\t\n", "grid.tsv:3: the same run as line 2"),
        ("ncm\tseed\nsoftmax\t0\n softmax\t 00\n", "grid.tsv:3: the same run as line 2"),
        (
            "ncm\tnum_sub_centroids\ndnc\t4\ndnc\t04\n",
            "grid.tsv:3: the same run as line 2",
        ),
        (
            "ncm\tlogit_norm\ndnc\t.5\ndnc\t5e-1\n",
            "grid.tsv:3: the same run as line 2",
        ),
        ("ncm\tweight_decay\ndnc\t0\ndnc\t-0.0\n", "the same run as line 2"),
        ("ncm\t\tseed\nsoftmax\t\t1\n", "grid.tsv:1: columns must be flags"),
        ('ncm\tdata_dir\nsoftmax\t"/a\n', "grid.tsv:2: unexpected end of data"),
        ('ncm\tdata_dir\nsoftmax\t"/a"b\n', "grid.tsv:2: "),
        ('ncm\tdata_dir\nsoftmax\t"/a\nb"\n', "grid.tsv:3: cells must be of one line"),
        ('ncm\tdata_dir\nsoftmax\t"/a\tb"\n', "Received: --data_dir='/a\\tb'"),
        ("ncm\tdata_dir\nsoftmax\t/a\0b\n", "cells must be of one line"),
        ("ncm\tdata_dir\nsoftmax\t" + "a" * 2**18, "grid.tsv:2: field larger than"),
        ("ncm\tnum_sub_centroids\ndnc\t²\n", "--num_sub_centroids must be an integer"),
        ("ncm\tseed\nsoftmax\t" + "9" * 5000, "grid.tsv:2: --seed must be an integer"),
        ("ncm\tdecay\ndecay\tnan\n", "--decay must be a number in [0, 1)"),
        ("ncm\tlearning_rate\ndecay\tinf\n", "--learning_rate must be a positive number"),
    ],
)
def test_malformed_grids_are_refused(tmp_path, text, message):
    with pytest.raises(grid.GridError, match=re.escape(message)):
        grid.read(write(tmp_path, text))


@pytest.mark.bad_input
def test_a_grid_that_is_no_text_file_is_refused(tmp_path):
    with pytest.raises(grid.GridError, match=r"Is a directory.*Received: "):
        grid.read(tmp_path)
    with pytest.raises(grid.GridError, match=r"No such file.*Received: .*nowhere\.tsv"):
        grid.read(tmp_path / "nowhere.tsv")
    (tmp_path / "grid.tsv").write_bytes(b"\xff\xfe")
    with pytest.raises(grid.GridError, match="must be a tab-separated text file"):
        grid.read(tmp_path / "grid.tsv")


@pytest.mark.parametrize(
    ("only", "number"),
    [
        ("ncm==decay", 12),
        ("ncm == 'decay' and learning_rate==0.1", 8),
        ("decay>=0.9", 6),
        ("decay!=0.9", 29),
        ("condensation_steps<195 && dataset==cifar100", 1),
        ("learning_rate<0.1", 12),
        ("condensation_steps==1e2", None),
        ("embedding_dim!=64", 32),
    ],
)
def test_only(only, number):
    if number is None:
        with pytest.raises(grid.GridError, match="--condensation_steps must be an integer"):
            grid.read(EXPERIMENTS / "paper.tsv", only)
    else:
        assert len(grid.read(EXPERIMENTS / "paper.tsv", only)) == number


@pytest.mark.parametrize(
    ("only", "lines"),
    [
        ("num_sub_centroids==04", [2]),
        ("num_sub_centroids>=4", [2, 3]),
        ("num_sub_centroids!=4", [3, 4]),
        ("num_sub_centroids==auto", [4]),
        ("logit_norm<.5", [3, 4]),
        ("logit_norm==layer", [2]),
        ("data_dir=='/this and that'", [2]),
        ('data_dir=="/a/and/b" and ncm == dnc', [3]),
        ("data_dir==it's", [4]),
    ],
)
def test_only_compares_values(tmp_path, only, lines):
    path = write(
        tmp_path,
        "ncm\tnum_sub_centroids\tlogit_norm\tdata_dir\n"
        "dnc\t4\tlayer\t/this and that\n"
        "dnc\t10\t0.25\t/a/and/b\n"
        "dnc\tauto\t\tit's\n",
    )
    assert [row.line for row in grid.read(path, only)] == lines


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("ncm", "--only must be FLAG==VALUE"),
        ("lr==0.1", "--only must be FLAG==VALUE"),
        ("ncm==decay or ncm==softmax", "--only must be FLAG==VALUE"),
        ("__import__('os')", "--only must be FLAG==VALUE"),
        ("ncm==online and decay==0.5", "--only selects none of 32 rows"),
        ("", "--only must be FLAG==VALUE"),
        (" and ", "--only must be FLAG==VALUE"),
        ("ncm==decay\nand", "--only must be FLAG==VALUE"),
        ("$(ncm)==decay", "--only must be FLAG==VALUE"),
        ("num_sub_centroids==²", "--num_sub_centroids must be an integer >= 1, or auto"),
        ("seed==" + "9" * 5000, "--seed must be an integer in [0, 2**31)"),
        ("learning_rate==nan", "--only selects none of 32 rows"),
    ],
)
def test_conditions_that_are_none_are_refused(only, message):
    with pytest.raises(grid.GridError, match=re.escape(message)):
        grid.read(EXPERIMENTS / "paper.tsv", only)
