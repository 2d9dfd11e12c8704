# SPDX-License-Identifier: Apache-2.0
"""explain: a report, of test images or files, from a bank or an anchored model."""

import json
import shutil

import check_pages
import keras
import pytest
import read_page
from command_lines import run

from deepncm_tf import explain, features
from deepncm_tf.data import datasets, pipeline
from deepncm_tf.pages import pictures


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
