# SPDX-License-Identifier: Apache-2.0
"""explain: a report, of test images or files, from a bank or an anchored model."""

import json
import pathlib
import shutil

import check_pages
import keras
import numpy as np
import pytest
import read_page
from command_lines import run

from deepncm_tf import explain, features
from deepncm_tf.data import datasets, pipeline
from deepncm_tf.models import rejection
from deepncm_tf.pages import pictures

MEASURES = {"dnc": "similarity", "nca": "similarity", "decay": "distance"}
MEASURES |= {"softmax": "similarity", "lda": "similarity"}


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
    check_pages.check_report(
        page, numbers, datasets.load("digits", "coarse"), MEASURES[method]
    )
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


def test_images_that_are_unknown(finished, patch, tmp_path, capsys):
    """Of the images that it is calibrated on those least like their classes."""
    method, folder = finished
    digits, labels = datasets.load("digits", "coarse")["test"]
    paths = [str(tmp_path / f"{i:02d}.png") for i in range(len(digits))]
    for path, image in zip(paths, digits, strict=True):
        pathlib.Path(path).write_bytes(pictures.png(image))
    values = {"model_dir": str(folder), "output": str(tmp_path / "report")}
    run(patch, explain, images=paths, alpha=0.2, **values)
    numbers = json.loads((tmp_path / "report" / "explanations.json").read_text())
    page = read_page.shown((tmp_path / "report" / "index.html").read_text("utf-8"))

    model = keras.models.load_model(folder / "model.keras")
    with pytest.warns(UserWarning, match="Prediction sets always hold"):  # 20 images
        model.calibrate(pipeline.standardize(digits), labels, alpha=0.2, verbose=0)
    judged = model.classify(pipeline.standardize(digits), verbose=0)
    rejected = judged.names.count("unknown")
    assert rejected == np.sum(judged.p_values <= 0.2)
    # p-values of 2, 3 and 4 in 21; the logits of softmax, hardly trained, are all alike.
    assert rejected == (0 if method == "softmax" else 3)
    for query, card, name, p_value in zip(
        numbers["queries"], page["cards"], judged.names, judged.p_values, strict=True
    ):
        assert (query["predicted"] == "unknown") == (name == "unknown")
        assert card["predicted"] == [query["predicted"]]
        assert (query["rejection"] is not None) == (name == "unknown")
        if name != "unknown":
            continue
        found = query["rejection"]
        assert found["p_value"] == pytest.approx(p_value)
        assert found["p_value"] <= found["alpha"] == 0.2
        assert found["value"] < found["threshold"]
        rule = card["sections"][-2]["words"]
        assert f"below {found['threshold']:.3f} THEN it is unknown" in rule
        measure = MEASURES[method]
        near = [near for one in query["classes"] for near in one["exemplars"]]
        sign = -1 if measure == "distance" else 1
        nearest = max(near, key=lambda one, sign=sign: sign * one[measure])
        assert f"The nearest exemplar is training image {nearest['index']} of " in rule
    assert page["facts"]["Unknown of these"] == f"{rejected} of 20"

    with pytest.raises(SystemExit):  # four digits are left, which are too few
        run(patch, explain, num_queries=16, alpha=0.1, **values)
    assert "--alpha=0.1 needs 9 images that are not" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(patch, explain, alpha=1.0, **values)
    assert "--alpha must be a number between 0 and 1. Rec" in capsys.readouterr().err


def test_scores_are_those_of_calibrate():
    assert set(explain.SCORES) == set(rejection.SCORES)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("alpha", 0.1, "--alpha must be given to teach, which calibrates."),
        ("score", "energy", "--score must be given to teach, which calibrates."),
        ("bank", "bank.npz", "--bank must be given without --model."),
        ("data_dir", "/data", "--data_dir must be given without --model."),
        ("num_queries", 3, "--num_queries must be given without --model."),
    ],
)
def test_flags_that_a_taught_model_has_no_use_for(
    model, pictures, monkeypatch, tmp_path, capsys, name, value, message
):
    values = {"model": str(model), "model_dir": None, "output": tmp_path / "report"}
    images = [pictures / "green" / "000.png"]
    with pytest.raises(SystemExit):
        run(monkeypatch, explain, images=images, **values, **{name: value})
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"explain: {message} Received: --model={model} --{name}={value}"
    assert not (tmp_path / "report").exists()


@pytest.mark.bad_input
def test_a_score_is_of_alpha(finished, patch, tmp_path, capsys):
    values = {"model_dir": str(finished[1]), "output": str(tmp_path / "report")}
    with pytest.raises(SystemExit):
        run(patch, explain, score="energy", **values)
    message = "explain: --score must be given with --alpha. Received: --score=energy\n"
    assert capsys.readouterr().err == message
