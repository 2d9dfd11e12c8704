# SPDX-License-Identifier: Apache-2.0
"""The command lines that read a finished run."""

import errno
import json
import os
import pathlib
import shutil
import tempfile
import types

import check_pages
import keras
import numpy as np
import pytest
import read_page
from small_runs import use_few_digits, use_small_network

from deepncm_tf import discover, evaluate, explain, features, flags, gallery, runs
from deepncm_tf.data import bank_files, datasets, pipeline
from deepncm_tf.pages import pictures
from deepncm_tf.runs import finished_run, training

DEFAULTS = {
    explain: {
        "output": "report",
        "images": [],
        "num_queries": 100,
        "bank": None,
        "data_dir": None,
    },
    discover: {"k": ["1", "5", "30"], "temperature": 0.05, "data_dir": None},
    features: {"split": "train", "projector": None, "data_dir": None},
    gallery: {"num_queries": 5, "num_neighbours": 3, "data_dir": None},
    evaluate: {
        "k": ["1", "5"],
        "temperature": ["0.05"],
        "bank": None,
        "knn": "exact",
        "split": "test",
        "data_dir": None,
    },
}


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        use_few_digits(patch)
        use_small_network(patch)
        yield patch


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("decay", "softmax", "nca")]


@pytest.fixture(scope="module", params=["dnc", *SLOW])
def finished(request, patch, tmp_path_factory):
    """Method and folder of a run on pairs of digits."""
    folder = tmp_path_factory.mktemp("runs") / request.param
    values = {"ncm": request.param, "dataset": "digits", "label": "coarse"}
    values |= {"train_epochs": 2, "model_dir": str(folder)}
    if request.param == "dnc":
        values |= {"num_sub_centroids": "2", "sub_centroid_initializer": "samples"}
    training.run(flags.resolve(values))
    return request.param, folder


def run(patch, module, **values):
    """Runs a command line in this process, with these flags and the others' defaults."""
    flag_values = types.SimpleNamespace(**{**DEFAULTS[module], **values})
    patch.setattr(module, "FLAGS", flag_values)
    module.main(["program"])


def test_a_report_is_written(finished, patch, tmp_path, capsys):
    method, folder = finished
    out = tmp_path / "report"
    run(patch, explain, model_dir=str(folder), output=str(out), num_queries=7)
    assert "7 images explained by" in capsys.readouterr().out
    assert {p.name for p in out.iterdir()} == {
        "index.html",
        "exemplars.png",
        "explanations.json",
    }
    numbers = json.loads((out / "explanations.json").read_text())
    assert numbers["facts"]["Method"] == method
    assert numbers["facts"]["Test accuracy"] == pytest.approx(
        json.loads((folder / "result.json").read_text())["final_test_accuracy"], abs=1e-4
    )
    labels = datasets.load("digits", "coarse")["train"][1]
    names = datasets.class_names("digits", "coarse")
    for c, name in enumerate(names):
        index = numbers["exemplars"][name]
        assert len(index) == (2 if method == "dnc" else 1)
        assert set(labels[index]) == {c}
    assert len(numbers["queries"]) == 7
    html = (out / "index.html").read_text("utf-8")
    page = read_page.shown(html)
    assert page["facts"]["Run"] == folder.name
    check_pages.check_report(page, numbers, datasets.load("digits", "coarse"))
    sheet = read_page.pixels((out / "exemplars.png").read_bytes())
    assert sheet.shape[0] == pytest.approx(5 * 66, abs=8)
    run(patch, explain, model_dir=str(folder), output=str(out), num_queries=7)
    assert (out / "index.html").read_text("utf-8") == html  # again, the same


def test_a_report_from_a_bank_or_of_an_anchored_model(finished, patch, tmp_path, capsys):
    method, folder = finished

    def report(name, **values):
        values = {"model_dir": str(folder), "output": str(tmp_path / name), **values}
        run(patch, explain, num_queries=2, **values)
        return (tmp_path / name / "index.html").read_text("utf-8")

    bank = str(tmp_path / "bank.npz")
    run(patch, features, model_dir=str(folder), output=bank)
    html = report("plain")
    assert report("of_bank", bank=bank) == html
    if method == "dnc":
        anchored = tmp_path / "anchored" / folder.name
        shutil.copytree(folder, anchored)
        model = keras.models.load_model(anchored / "model.keras")
        images, labels = datasets.load("digits", "coarse")["train"]
        model.anchor(pipeline.standardize(images), labels, verbose=0)
        model.save(anchored / "model.keras")
        with pytest.raises(SystemExit):
            report("of_changed", model_dir=str(anchored))
        assert "its checksum is not that of SHA256SUMS" in capsys.readouterr().err
        (anchored / "SHA256SUMS").unlink()
        sheet = (tmp_path / "plain" / "exemplars.png").read_bytes()
        report("of_anchored", model_dir=str(anchored))
        assert (tmp_path / "of_anchored" / "exemplars.png").read_bytes() == sheet
        model.anchor(pipeline.standardize(images[::-1]), labels[::-1], verbose=0)
        model.save(anchored / "model.keras")
        with pytest.raises(SystemExit):
            report("of_others", model_dir=str(anchored))


@pytest.mark.bad_input
def test_a_bank_of_another_run(finished, patch, tmp_path, capsys):
    _, folder = finished
    bank = tmp_path / "bank.npz"
    run(patch, features, model_dir=str(folder), output=str(bank))
    rows, labels, ids = bank_files.read_bank(bank)
    for other, message in (
        ((rows[:, 1:], labels, ids), f"--bank must have features of {rows.shape[1]} dimen"),
        ((rows, labels + 1, ids), "--bank must be of the 70 training images of this run"),
        ((rows, labels, ids + 1), "Received: other ids or labels in"),
        ((rows[::-1], labels, ids), "Received: other features of the same images in"),
    ):
        bank_files.write_bank(bank, *other)
        for module in (explain, evaluate):
            with pytest.raises(SystemExit):
                run(patch, module, model_dir=str(folder), bank=str(bank))
            assert message in capsys.readouterr().err


def test_files_are_explained(finished, patch, tmp_path):
    _, folder = finished
    image = datasets.load("digits", "coarse")["test"][0][0]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "<b>one.png").write_bytes(pictures.png(image))
    (tmp_path / "in" / "notes.txt").write_text("no image")
    out = tmp_path / "report"
    run(
        patch,
        explain,
        model_dir=str(folder),
        output=str(out),
        images=[str(tmp_path / "in")],
    )
    (query,) = json.loads((out / "explanations.json").read_text())["queries"]
    assert query["name"] == "<b>one.png"
    assert query["label"] is None
    (card,) = read_page.shown((out / "index.html").read_text("utf-8"))["cards"]
    assert (card["name"], card["label"]) == ("<b>one.png", None)
    assert card["picture"][1] == pictures.checked(image).tolist()
    run(
        patch, explain, model_dir=str(folder), output=str(tmp_path / "other"), num_queries=1
    )
    numbers = json.loads((tmp_path / "other" / "explanations.json").read_text())
    assert numbers["queries"][0]["classes"] == query["classes"]  # the same picture


def test_discovery(finished, patch, capsys):
    method, folder = finished
    run(patch, discover, model_dir=str(folder), k=["1", "3"])
    found = json.loads((folder / "discovery.json").read_text())
    assert found["prototypes"] == (10 if method == "dnc" else 5)
    result = json.loads((folder / "result.json").read_text())
    assert found["accuracy"] == pytest.approx(result["final_test_accuracy"])
    assert 0.1 < found["induction_accuracy_1"] <= 1  # ten classes
    assert {"induction_accuracy_3", "purity", "normalized_mutual_information"} <= set(found)
    assert f"purity: {found['purity']:.4f}" in capsys.readouterr().out
    config = json.loads((folder / "config.json").read_text())["flags"]
    assert training.run(config)  # the folder is still that of a finished run


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
    x = model.embed(pipeline.standardize(queries), verbose=0)
    assert ("anchored_accuracy" in found) == (method == "dnc")
    if method == "dnc":
        model.anchor(pipeline.standardize(images), labels, verbose=0)
        right = np.asarray(model.classifier(x)).argmax(axis=-1) == truth
        assert found["anchored_accuracy"] == pytest.approx(right.mean())
    units = np.asarray(model.classifier.unit_features(rows))
    near = np.asarray(model.classifier.unit_features(x)) @ units.T
    expected = (labels[near.argmax(axis=1)] == truth).mean()
    assert found["knn_1_1"] == pytest.approx(expected)


def test_gallery(finished, patch, tmp_path):
    _, folder = finished
    output = tmp_path / "pages" / "gallery.html"
    run(patch, gallery, model_dirs=[str(folder)], output=str(output))
    page = read_page.shown(output.read_text("utf-8"))
    assert page["facts"] == {"Dataset": "digits", "Models": "1"}
    assert models_shown(page) == [folder.name]
    model = keras.models.load_model(folder / "model.keras")
    names = datasets.class_names("digits", "coarse")
    check_pages.check_gallery(page, model, datasets.load("digits", "coarse"), names)


def test_a_gallery_loses_no_model(finished, patch, monkeypatch, tmp_path):
    """Folders are told apart by the names they are given by."""
    _, folder = finished
    for name in ("one", "other"):
        shutil.copytree(folder, tmp_path / name / "run")
        (tmp_path / f"by_{name}").symlink_to(tmp_path / name / "run")
    output, links = tmp_path / "gallery.html", ["by_one", "by_other"]
    paths = [str(tmp_path / name) for name in links]
    run(patch, gallery, model_dirs=paths, output=str(output))
    assert models_shown(read_page.shown(output.read_text("utf-8"))) == links
    monkeypatch.chdir(folder)  # which has a name, although "." has none
    run(patch, gallery, model_dirs=["."], output=str(output))
    assert models_shown(read_page.shown(output.read_text("utf-8"))) == [folder.name]


def models_shown(page):
    """The models of a gallery: five queries, by each model three neighbours of each."""
    sections = [card["sections"] for card in page["cards"]]
    assert {len(one["neighbours"]) for part in sections for one in part} == {3}
    headings = [[one["heading"] for one in part] for part in sections]
    assert headings == [headings[0]] * 5
    return headings[0]


def test_projector_files(finished, patch, tmp_path):
    _, folder = finished
    values = {
        "output": str(tmp_path / "bank.npz"),
        "projector": str(tmp_path / "projector"),
    }
    run(patch, features, model_dir=str(folder), split="test", **values)
    lines = (tmp_path / "projector" / "metadata.tsv").read_text().splitlines()
    assert len(lines) == 21


@pytest.mark.bad_input
def test_a_gallery_is_of_one_dataset(finished, patch, tmp_path, capsys):
    _, folder = finished
    values = {"ncm": "softmax", "dataset": "digits", "train_epochs": 1}
    training.run(flags.resolve({**values, "model_dir": str(tmp_path / "fine")}))
    output = str(tmp_path / "gallery.html")
    for other, message in (
        (tmp_path / "fine", "of runs with one --label. Received: ['coarse', 'fine']"),
        (folder, "must be folders with different names"),
    ):
        with pytest.raises(SystemExit):
            run(patch, gallery, model_dirs=[str(folder), str(other)], output=output)
        assert message in capsys.readouterr().err


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("module", "values", "message"),
    [
        (explain, {"model_dir": None}, "explain: --model_dir=DIR is needed"),
        (explain, {"model_dir": "nowhere"}, "must be the folder of a run of cifar_main"),
        (explain, {"images": ["nowhere.png"]}, "--images must be image files"),
        (explain, {"images": [__file__]}, "--images must be image files"),
        (explain, {"bank": "bank.h5"}, "must end in .npz or .npy. Received: bank.h5"),
        (explain, {"bank": "nowhere.npz"}, "is no bank that can be read"),
        (explain, {"output": __file__}, "--output must be a folder. Received: --output="),
        (explain, {"output": str(pathlib.Path(__file__).parent)}, "holds other files"),
        (discover, {"model_dir": None}, "discover: --model_dir=DIR is needed"),
        (discover, {"k": ["0"]}, "--k must be integers >= 1, separated by commas"),
        (discover, {"k": ["1", "x"]}, "Received: --k=1,x"),
        (evaluate, {"k": ["71"]}, "--k must be at most the number of training images, 70"),
        (discover, {"k": ["71"]}, "--k must be at most the number of training images, 70"),
        (gallery, {"num_neighbours": 71}, "Received: --num_neighbours=71"),
        (evaluate, {"temperature": ["0"]}, "--temperature must be positive numbers"),
        (evaluate, {"temperature": ["a"]}, "Received: --temperature=a"),
        (evaluate, {"knn": "annoy"}, "--knn must be exact or faiss. Received: --knn=annoy"),
        (evaluate, {"bank": "bank.h5"}, "must end in .npz or .npy. Received: bank.h5"),
        (evaluate, {"bank": "nowhere.npz"}, "is no bank that can be read"),
        (evaluate, {"split": "train"}, "--split must be one of ['test']"),
        (features, {"split": "val"}, "--split must be one of ['test', 'train']"),
        (features, {"output": "bank.h5"}, "must end in .npz or .npy. Received: bank.h5"),
        (gallery, {"model_dirs": []}, "--model_dirs=DIR,... is needed"),
        (gallery, {"model_dirs": ["nowhere"]}, "must be the folder of a run of cifar_main"),
        (gallery, {"output": "page.png"}, "--output must end in .html. Received: page.png"),
        (discover, {"temperature": 0.0}, "--temperature must be a positive number"),
    ],
)
def test_bad_flags(finished, patch, tmp_path, capsys, module, values, message):
    values = {"model_dir": str(finished[1]), **values}
    names = {explain: "report", features: "report.npz", gallery: "report.html"}
    if module in names:
        values.setdefault("output", str(tmp_path / names[module]))
        values.setdefault("model_dirs", [values["model_dir"]])
    with pytest.raises(SystemExit) as ended:
        run(patch, module, **values)
    assert ended.value.code in (1, 2)
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.bad_input
def test_runs_that_do_not_fit_are_refused(patch, tmp_path, capsys):
    config = flags.resolve({"dataset": "digits", "model_dir": str(tmp_path / "run")})
    folder = runs.RunFolder(config)
    folder.open()
    folder.close()
    with pytest.raises(SystemExit):
        run(patch, explain, model_dir=str(tmp_path / "run"))
    assert "this one has no model.keras yet" in capsys.readouterr().err
    (tmp_path / "run" / "model.keras").write_text("damaged")
    with pytest.raises(SystemExit):
        run(patch, discover, model_dir=str(tmp_path / "run"))
    assert "must be of a run on superclasses, --label=coarse" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(patch, explain, model_dir=str(tmp_path / "run"), output=str(tmp_path / "out"))
    assert "model.keras cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.bad_input
@pytest.mark.parametrize("module", [evaluate, discover, explain, features, gallery])
def test_what_cannot_be_written_is_said_first(finished, patch, tmp_path, capsys, module):
    """A file in the place of a folder: as unwritable for root as for others."""
    _, folder = finished
    (tmp_path / "file").touch()
    values = {"model_dir": str(folder), "model_dirs": [str(folder)]}
    names = {explain: "report", features: "bank.npz", gallery: "page.html"}
    place = folder
    with pytest.MonkeyPatch.context() as monkeypatch:
        if module in names:
            place = tmp_path / "file" / names[module]
            values["output"] = str(place)
        else:  # a folder of the run that is read-only
            monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
        monkeypatch.setattr(finished_run.FinishedRun, "__init__", pytest.fail)
        with pytest.raises(SystemExit) as ended:
            run(patch, module, **values)
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    flag = "--output" if module in names else "--model_dir"
    assert f"{flag} must be " in line
    assert line.endswith(f"Received: {flag}={place}")


def read_only(*args, **kwargs):
    raise OSError(errno.EROFS, "Read-only file system")


def disk_full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("module", "name"), [(evaluate, "knn_1_0.05"), (discover, "purity")]
)
def test_figures_are_printed_where_the_disk_is_full(finished, patch, capsys, module, name):
    _, folder = finished
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "replace", disk_full)
        with pytest.raises(SystemExit) as ended:
            run(patch, module, model_dir=str(folder), k=["1"])
    assert ended.value.code == 1
    printed = capsys.readouterr()
    assert f"\n{name}: 0." in printed.out
    (line,) = printed.err.splitlines()
    assert "No space left on device" in line
