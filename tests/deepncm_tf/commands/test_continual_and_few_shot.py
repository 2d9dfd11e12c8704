# SPDX-License-Identifier: Apache-2.0
"""continual and few_shot: tables, figures and files, of pixels, runs and bank files."""

import errno
import json
import sys

import numpy as np
import pytest
from command_lines import run

from deepncm_tf import continual, features, few_shot
from deepncm_tf.data import bank_files
from deepncm_tf.evaluation import few_shot as episodes
from deepncm_tf.evaluation import heads
from deepncm_tf.runs import feature_sources

BOTH = pytest.mark.parametrize("module", [continual, few_shot])


def name_of(module):
    return module.__name__.rpartition(".")[2]


def call(monkeypatch, module, folder, **values):
    """Runs a command line, returns what it wrote."""
    run(monkeypatch, module, output=str(folder), **values)
    return json.loads((folder / f"{name_of(module)}.json").read_text())


def test_continual_of_digits(monkeypatch, tmp_path, capsys):
    folder = tmp_path / "new" / "continual"
    found = call(monkeypatch, continual, folder, dataset="digits", random_features=50)
    assert {p.name for p in folder.iterdir()} == {"continual.json", "continual.png"}
    assert (folder / "continual.png").read_bytes().startswith(b"\x89PNG")
    assert (found["dataset"], found["classes"], found["tasks"]) == ("digits", 10, 5)
    assert list(found["heads"]) == list(continual.HEADS)
    printed = capsys.readouterr().out
    for name, figures in found["heads"].items():
        first, second = figures["seeds"]
        assert first["tasks"] != second["tasks"]
        assert sorted(np.ravel(first["tasks"])) == list(range(10))
        assert [len(row) for row in first["matrix"]] == [1, 2, 3, 4, 5]
        finals = [first["final_accuracy"], second["final_accuracy"]]
        assert figures["final_accuracy"] == pytest.approx(np.mean(finals))
        assert figures["final_accuracy_deviation"] == pytest.approx(np.std(finals, ddof=1))
        assert figures["final_accuracy"] > 0.85
        if name != "knn":
            assert finals[0] == finals[1]  # in any order of classes
        (line,) = (line for line in printed.splitlines() if line.startswith(f"{name} "))
        assert f"{100 * figures['forgetting']:.1f} ± " in line
    (x, y), (queries, truth) = feature_sources.read_features({"dataset": "digits"})[1:]
    means = np.array([x[y == c].mean(axis=0) for c in range(10)])
    nearest = np.square(queries[:, None] - means).sum(axis=-1).argmin(axis=1)
    assert found["heads"]["means"]["final_accuracy"] == pytest.approx(
        (nearest == truth).mean(), abs=1.01 / len(truth)
    )


def test_a_single_order_and_no_matplotlib(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    values = {"dataset": "digits", "heads": ["means"], "seeds": 1}
    found = call(monkeypatch, continual, tmp_path, **values)
    assert found["heads"]["means"]["final_accuracy_deviation"] is None
    assert [p.name for p in tmp_path.iterdir()] == ["continual.json"]
    assert "no continual.png without Matplotlib" in capsys.readouterr().out


def test_few_shot_of_digits(monkeypatch, tmp_path, capsys):
    found = call(monkeypatch, few_shot, tmp_path, dataset="digits", seed=3)
    by_shots = found["accuracy"]
    assert list(by_shots) == ["1_shot", "5_shot"]
    (x, _), (queries, truth) = feature_sources.read_features({"dataset": "digits"})[1:]
    rows = episodes.draw_episodes(truth, 5, 16, 60, seed=3)
    accuracies = episodes.episode_accuracies(queries, rows, 1, x.mean(axis=0))
    printed = capsys.readouterr().out
    for head, values in accuracies.items():
        one, five = (by_head[head] for by_head in by_shots.values())
        assert one["mean"] == pytest.approx(values.mean())
        assert one["interval"] == pytest.approx(1.96 * values.std(ddof=1) / 60**0.5, 1e-3)
        assert 0.5 < one["mean"] < five["mean"]
        assert f"{100 * one['mean']:.2f} ± {100 * one['interval']:.2f}" in printed


def test_features_of_a_run_and_of_bank_files(finished, monkeypatch, tmp_path):
    _, folder = finished
    banks = {}
    for flag, split in (("bank", "train"), ("test_bank", "test")):
        banks[flag] = str(tmp_path / f"{split}.npy")
        values = {"model_dir": str(folder), "split": split, "output": banks[flag]}
        run(monkeypatch, features, **values)
    for module in (continual, few_shot):
        of_run = call(monkeypatch, module, tmp_path / "run", model_dir=str(folder))
        of_banks = call(monkeypatch, module, tmp_path / "banks", **banks)
        assert of_run.pop("model_dir") == str(folder)
        assert {name: of_banks.pop(name) for name in banks} == banks
        assert of_banks == of_run


def test_heads_are_those_of_the_evaluation():
    assert tuple(heads.HEADS) == continual.HEADS
    assert tuple(episodes.HEADS) == few_shot.HEADS


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("module", "values", "status", "message"),
    [
        (continual, {"dataset": None}, 2, "--dataset=digits. Received: none"),
        (few_shot, {"model_dir": "run"}, 2, "Received: --model_dir=run --dataset=digits"),
        (continual, {"dataset": "", "bank": "a.npz"}, 2, "Received: --bank=a.npz"),
        (few_shot, {"dataset": "cifar10"}, 2, "must be digits; of others, give a run or"),
        (continual, {"dataset": None, "model_dir": "no"}, 1, "must be the folder of a run"),
        (continual, {"heads": ["means", "nca"]}, 2, "Received: --heads=means,nca"),
        (few_shot, {"heads": []}, 2, "must be names in ['means', 'unit', 'cl2n', 'lda']"),
        (continual, {"tasks": 3}, 1, "the number of classes, 10. Received: --tasks=3"),
        (few_shot, {"way": 11}, 1, "with 20 test features, shots and queries. Received: "),
        (few_shot, {"queries": 40}, 1, "--way must be at most 0, the number of classes"),
        (few_shot, {"shots": ["1", "0"]}, 1, "--shots must be integers >= 1"),
        (few_shot, {"output": __file__}, 1, "--output must be where files can be written"),
    ],
)
def test_bad_flags(monkeypatch, tmp_path, capsys, module, values, status, message):
    values = {"dataset": "digits", "output": str(tmp_path / "out"), **values}
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, module, **values)
    assert ended.value.code == status
    line, *hint = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{name_of(module)}: ")
    assert message in line
    assert len(hint) == (status == 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("module", "argument"),
    [
        (continual, "--tasks=0"),
        (continual, "--seeds=0"),
        (continual, "--random_features=x"),
        (few_shot, "--way=1"),
        (few_shot, "--episodes=1"),
        (few_shot, "--seed=-1"),
    ],
)
def test_numbers_out_of_range(capsys, module, argument):
    with pytest.raises(SystemExit) as ended:
        module.command_line.parse([name_of(module), argument])
    assert ended.value.code == 2
    assert argument.strip("-").split("=")[0] in capsys.readouterr().err


class Gone:
    """A screen that nobody reads any more."""

    def write(self, text):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    def flush(self):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


@BOTH
def test_figures_are_written_where_they_cannot_be_printed(monkeypatch, tmp_path, module):
    features = feature_sources.read_features({"dataset": "digits"})
    with monkeypatch.context() as patch, pytest.raises(BrokenPipeError):
        patch.setattr(sys, "stdout", Gone())
        module.compare(features, ["means"], output=tmp_path)
    found = json.loads((tmp_path / f"{name_of(module)}.json").read_text())
    assert "means" in json.dumps(found)


@pytest.mark.bad_input
def test_memory_that_there_is_not(monkeypatch, tmp_path, capsys):
    values = {"heads": ["ranpac"], "random_features": 10**9, "dataset": "digits"}
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, continual, output=str(tmp_path), **values)
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("continual: There is not enough memory (")


@pytest.mark.bad_input
@BOTH
def test_banks_that_do_not_go_together(monkeypatch, tmp_path, capsys, module):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    arrays = {
        "train.npz": (rng.random((60, 4)), labels),
        "wide.npz": (rng.random((60, 5)), labels),
        "others.npz": (rng.random((60, 4)), labels + 1),
    }
    for name, (rows, classes) in arrays.items():
        bank_files.write_bank(tmp_path / name, rows, classes, np.arange(60))
    wrong = {
        "wide.npz": "--test_bank must have features of 4 dimensions, those of --bank",
        "nowhere.npz": "is no bank that can be read",
        "bank.h5": "must end in .npz or .npy",
    }
    if module is continual:
        wrong["others.npz"] = "Received: of one of the two alone classes 0, 3"
    values = {"bank": str(tmp_path / "train.npz"), "output": str(tmp_path / "out")}
    for name, message in wrong.items():
        with pytest.raises(SystemExit) as ended:
            run(monkeypatch, module, test_bank=str(tmp_path / name), **values)
        assert ended.value.code == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    if module is few_shot:  # episodes may be of other classes
        values = {"bank": values["bank"], "test_bank": str(tmp_path / "others.npz")}
        found = call(monkeypatch, module, tmp_path / "out", way=3, shots=["2"], **values)
        assert found["way"] == 3
    assert (tmp_path / "out").exists() == (module is few_shot)
