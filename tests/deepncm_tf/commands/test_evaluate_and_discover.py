# SPDX-License-Identifier: Apache-2.0
"""evaluate and discover: figures of a run, printed and stored."""

import errno
import json
import os
import re

import keras
import numpy as np
import picture_folders
import pytest
from command_lines import run
from PIL import Image
from sklearn import neighbors
from sklearn.metrics import auc, roc_auc_score

from deepncm_tf import discover, evaluate, features, flags, runs
from deepncm_tf.data import bank_files, datasets, pipeline
from deepncm_tf.data.image_sources import ImageSource
from deepncm_tf.pages import curves
from deepncm_tf.runs import training
from deepncm_tf.runs.finished_run import FinishedRun
from experiments import collect, tables


def test_discovery(finished, patch, capsys):
    method, folder = finished
    run(patch, discover, model_dir=str(folder), k=["1", "3"])
    found = json.loads((folder / "discovery.json").read_text())
    assert found["prototypes"] == (10 if method == "dnc" else 5)
    result = json.loads((folder / "result.json").read_text())
    assert found["accuracy"] == pytest.approx(result["final_test_accuracy"])
    assert 0.1 < found["induction_accuracy_1"] <= 1  # ten classes
    assert {"induction_accuracy_3", "purity", "normalized_mutual_information"} <= set(found)
    fine = datasets.load("digits", "fine")
    model = keras.models.load_model(folder / "model.keras")
    bank, queries = (
        np.asarray(model.backbone(pipeline.standardize(fine[name][0]), training=False))
        for name in ("train", "test")
    )
    nearest = neighbors.KNeighborsClassifier(1, metric="cosine")
    nearest.fit(bank, fine["train"][1])
    expected = nearest.score(queries, fine["test"][1])
    assert found["backbone_induction_accuracy_1"] == pytest.approx(expected)
    printed = capsys.readouterr().out.splitlines()
    assert f"purity: {100 * found['purity']:.1f} %" in printed
    within = f"{100 * found['induction_accuracy_1']:.1f} %"
    assert f"k = 1, classes within: {within}" in printed
    config = json.loads((folder / "config.json").read_text())["flags"]
    assert training.run(config)  # the folder is still that of a finished run


def test_classes_within_that_have_no_training_image():
    units, truth = np.eye(3), np.array([0, 1, 2])
    found = discover._induction("", units[:2], units, truth[:2], truth, [1], 0.05)
    assert found == {"induction_accuracy_1": pytest.approx(2 / 3)}


def test_evaluation(finished, patch, tmp_path):
    method, folder = finished
    bank = tmp_path / "bank.npy"
    run(patch, features, model_dir=str(folder), output=str(bank))
    rows, labels, ids = bank_files.read_bank(bank)
    assert ids.tolist() == list(range(70))
    assert labels.tolist() == datasets.load("digits", "coarse")["train"][1].tolist()

    run(patch, evaluate, model_dir=str(folder), temperature=["0.05", "1"])
    found = json.loads((folder / "evaluation.json").read_text())
    result = json.loads((folder / "result.json").read_text())
    assert found["accuracy"] == pytest.approx(result["final_test_accuracy"])
    assert found["knn_1_0.05"] == found["knn_1_1"] == found["knn_top5_1_1"]
    assert found["knn_top5_5_1"] >= found["knn_5_1"]
    assert {"recall_at_4", "precision_at_1", "r_precision", "map_at_r"} <= set(found)
    run(patch, evaluate, model_dir=str(folder), temperature=["0.05", "1"], bank=str(bank))
    again = json.loads((folder / "evaluation.json").read_text())
    assert (found["bank"], again["bank"]) == (None, str(bank))
    assert {**again, "bank": None} == found

    images, labels = datasets.load("digits", "coarse")["train"]
    queries, truth = datasets.load("digits", "coarse")["test"]
    model = keras.models.load_model(folder / "model.keras")
    averages = sum(np.size(v) for v in model.backbone.non_trainable_variables)
    numbers = sum(array.size for array in model.get_weights()) - averages
    assert found["learnable_parameters"] + found["class_state"] == numbers
    assert (found["class_state"] == 0) == (method == "softmax")
    x = model.embed(pipeline.standardize(queries), verbose=0)
    assert ("anchored_accuracy" in found) == (method == "dnc")
    if method == "dnc":
        model.anchor(pipeline.standardize(images), labels, verbose=0)
        right = np.asarray(model.classifier(x)).argmax(axis=-1) == truth
        assert found["anchored_accuracy"] == pytest.approx(right.mean())
    assert ("adapted_accuracy" in found) == (method != "softmax")
    if method != "softmax":
        model = keras.models.load_model(folder / "model.keras")
        model.adapt(pipeline.standardize(images), labels, batch_size=256, verbose=0)
        right = np.asarray(model.classifier(x)).argmax(axis=-1) == truth
        assert found["adapted_accuracy"] == pytest.approx(right.mean())
    units = np.asarray(model.classifier.unit_features(rows))
    near = np.asarray(model.classifier.unit_features(x)) @ units.T
    expected = (labels[near.argmax(axis=1)] == truth).mean()
    assert found["knn_1_1"] == pytest.approx(expected)


def auroc_of_max_logit(folder, known, others):
    model = keras.models.load_model(folder / "model.keras")
    largest = [
        np.max(model.predict(pipeline.standardize(x), verbose=0), axis=1)
        for x in (known, others)
    ]
    is_known = [1] * len(known) + [0] * len(others)
    return roc_auc_score(is_known, np.concatenate(largest))


def test_pictures_in_another_size(patch, monkeypatch, tmp_path):
    """They are made on demand: nothing wants all of a training set in memory."""
    folder, bank = tmp_path / "run", tmp_path / "bank.npz"
    values = {"dataset": "digits", "label": "coarse", "image_size": 16, "middle": 0.75}
    values |= {"ncm": "dnc", "num_sub_centroids": "2", "train_epochs": 1}
    training.run(flags.resolve({**values, "model_dir": str(folder)}))
    expected = json.loads((folder / "result.json").read_text())["final_test_accuracy"]

    def refuse(self, *args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(ImageSource, "__array__", refuse, raising=False)
    run(patch, features, model_dir=str(folder), output=str(bank))
    for options in ({}, {"bank": str(bank)}):
        run(patch, evaluate, model_dir=str(folder), k=["1"], **options)
        found = json.loads((folder / "evaluation.json").read_text())
        assert found["accuracy"] == pytest.approx(expected)
        assert "anchored_accuracy" in found
    run(patch, discover, model_dir=str(folder), k=["1"])
    found = json.loads((folder / "discovery.json").read_text())
    assert found["accuracy"] == pytest.approx(expected)


def test_images_of_no_known_class(finished, patch, capsys):
    """Noise; and the known images themselves, which cannot be told apart."""
    method, folder = finished
    _, (images, _) = datasets.load("digits", "coarse").values()
    noise = np.random.default_rng(0).integers(256, size=(30, 32, 32, 3)).astype("uint8")
    load = datasets.load

    def load_others(name, *args, **kwargs):
        others = {"cifar10": noise, "cifar100": images}
        if name in others:
            return {"test": (others[name], np.zeros(len(others[name]), "int32"))}
        return load(name, *args, **kwargs)

    patch.setattr(datasets, "load", load_others)
    pictures = {}
    for name in ("cifar10", "cifar100"):
        run(patch, evaluate, model_dir=str(folder), k=["1"], unknown=name)
        found = json.loads((folder / "evaluation.json").read_text())
        figures = {k: v for k, v in found.items() if k.startswith(f"unknown_{name}_")}
        roc = figures.pop(f"unknown_{name}_roc")
        assert len(figures) == 7
        rates = roc.pop("false_positive_rate")
        for score, curve in roc.items():  # steps, of which the figures are the areas
            auroc = figures[f"unknown_{name}_{score}"]["auroc"]
            area = auc(rates, curve)
            assert area <= auroc + 0.06
            if method != "softmax":  # whose logits, hardly trained, are all alike
                assert area == pytest.approx(auroc, abs=0.06)
        pictures[name] = Image.open(folder / "roc.png").convert("RGB")
        (folder / "roc.png").unlink()  # written anew
        for metrics in figures.values():
            assert set(metrics) > {"auroc", "fpr_at_95_tpr", "oscr"}
            assert 0 <= metrics["oscr"] <= found["accuracy"]
        auroc = figures[f"unknown_{name}_max_logit"]["auroc"]
        others = noise if name == "cifar10" else images
        assert auroc == pytest.approx(auroc_of_max_logit(folder, images, others), abs=1e-3)
    aurocs = [metrics["auroc"] for metrics in figures.values()]
    assert aurocs == pytest.approx([0.5] * 7, abs=1e-9), aurocs
    printed = capsys.readouterr().out
    (row,) = [line for line in printed.splitlines() if "unknown_cifar100_energy" in line]
    assert row.split()[1] == "0.5000"
    (head,) = [line for line in printed.splitlines() if "aupr_known" in line][-1:]
    assert row.index("0.5000") + len("0.5000") == head.index("auroc") + len("auroc")
    assert len(row.split()) - 1 == len(head.split()) == 6
    assert "_roc" not in printed
    assert f"\n{folder / 'roc.png'}\n" in printed
    pixels = np.asarray(pictures["cifar10"])
    for color in curves.COLORS[:7]:
        wanted = [int(color[place : place + 2], 16) for place in (1, 3, 5)]
        assert (np.abs(pixels.astype(int) - wanted).max(axis=-1) < 3).any()


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["digits", "nonsense"])
def test_unknown_images_of_another_dataset(finished, patch, capsys, name):
    _, folder = finished
    with pytest.raises(SystemExit):
        run(patch, evaluate, model_dir=str(folder), unknown=name)
    assert (
        "--unknown must be another dataset than the run's, one of ['cifar10'"
        in capsys.readouterr().err
    )


def disk_full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(("module", "name"), [(evaluate, "k = 1"), (discover, "purity")])
def test_figures_are_printed_where_the_disk_is_full(finished, patch, capsys, module, name):
    _, folder = finished
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "replace", disk_full)
        with pytest.raises(SystemExit) as ended:
            run(patch, module, model_dir=str(folder), k=["1"])
    assert ended.value.code == 1
    printed = capsys.readouterr()
    assert re.search(rf"\n{name}: \d+\.\d %\n", printed.out)
    (line,) = printed.err.splitlines()
    assert "No space left on device" in line


def test_classes_that_a_run_did_not_learn(patch, tmp_path):
    folder = tmp_path / "run"
    values = {"dataset": "digits", "known_classes": "0-5", "ncm": "decay"}
    config = flags.resolve({**values, "train_epochs": 2, "model_dir": str(folder)})
    training.run(config)
    assert FinishedRun(folder).class_names == ["0", "1", "2", "3", "4", "5"]
    run(patch, evaluate, model_dir=str(folder), k=["1"], unknown="digits")
    found = json.loads((folder / "evaluation.json").read_text())
    result = json.loads((folder / "result.json").read_text())
    assert found["accuracy"] == pytest.approx(result["final_test_accuracy"])
    assert (folder / "roc.png").exists()
    runs.RunFolder(config).check()  # which is a run's folder still
    others = datasets.load("digits", classes=[6, 7, 8, 9])["test"][0]
    known = datasets.load("digits", classes=[0, 1, 2, 3, 4, 5])["test"][0]
    auroc = found["unknown_digits_max_logit"]["auroc"]
    assert auroc == pytest.approx(auroc_of_max_logit(folder, known, others), abs=1e-3)


def test_a_folder_with_one_test_image_of_a_class(patch, monkeypatch, tmp_path, capsys):
    picture_folders.write(tmp_path / "pictures", {"a": 4, "b": 5, "c": 4})
    monkeypatch.chdir(tmp_path)
    values = {"dataset": "folder:pictures", "known_classes": "0-1", "ncm": "decay"}
    training.run(flags.resolve({**values, "train_epochs": 1, "model_dir": "run"}))
    run(patch, evaluate, model_dir="run", k=["1"], unknown="folder:pictures")
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert {"accuracy", "knn_1_0.05", "adapted_accuracy"} < set(found)
    assert not {"recall_at_1", "map_at_r"} & set(found)
    assert f"unknown_folder:{tmp_path}/pictures_energy" in found  # wherever it was given
    printed = capsys.readouterr().out
    assert "\nno retrieval metrics, which need two test images of a class\n" in printed
    (result,) = collect.read_runs(["run"])
    assert result["evaluation"] == found
    assert tables.records([result])[0]["knn_1_0.05"] == found["knn_1_0.05"]
    assert "kNN, k = 1" in tables.markdown([result])
