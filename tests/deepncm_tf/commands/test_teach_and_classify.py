# SPDX-License-Identifier: Apache-2.0
"""A folder becomes a model by teach; classify, explain and gallery read it."""

import html
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import picture_folders
import pytest
import read_page
import taught
from command_lines import run
from PIL import Image

from deepncm_tf import classify, explain, gallery, teach
from deepncm_tf.classifiers import NAMES
from deepncm_tf.models import rejection
from deepncm_tf.teaching import report
from deepncm_tf.teaching.lesson import Lesson
from deepncm_tf.teaching.taught_model import TaughtModel


def test_the_report(model, pictures):
    report = json.loads((model.with_name("my-report") / "report.json").read_text())
    assert report["pictures"] == report["judged"] == 76
    assert [one["pictures"] for one in report["classes"]] == [25, 21, 30]
    matrix = np.array(report["confusion_matrix"])
    assert matrix.tolist() == [[24, 1, 0], [0, 21, 0], [0, 0, 30]]
    assert report["accuracy"] == matrix.trace() / 76
    assert [one["accuracy"] for one in report["classes"]] == [24 / 25, 1, 1]
    first = report["looks_mislabelled"][0]
    assert first == {
        "picture": "blue/green.jpg",
        "label": "blue",
        "predicted": "green",
        "p_value": 1 / 25,
    }
    for one in report["looks_mislabelled"]:
        assert one["p_value"] < 0.05
    for one in report["classes"]:
        (exemplar,) = one["exemplars"]
        assert exemplar.startswith(f"{one['name']}/")
        assert (pictures / exemplar).exists()


def test_the_page(model):
    text = (model.with_name("my-report") / "index.html").read_text("utf-8")
    page = read_page.shown(text)
    assert page["facts"]["Pictures"] == "76"
    assert page["facts"]["Accuracy, cross-validated"] == "0.987"
    assert page["cards"][0]["name"] == "blue/green.jpg"
    assert page["cards"][0]["predicted"] == ["green"]
    assert "<b>" not in text
    assert "red &lt;b&gt;" in text


def test_classes_too_small_for_p_values(monkeypatch, tmp_path, capsys):
    """The smallest p-value of n pictures is 1 / n, and that of a new one 1 / (n + 1)."""
    taught.use_small_backbone(monkeypatch)
    pictures = taught.write_pictures(
        tmp_path / "p", {"blue": 19, "green": 17, "red <b>": 21}
    )
    shutil.copy(pictures / "blue" / "000.png", pictures / "green" / "blue.png")
    output = tmp_path / "my.keras"
    taught.run(monkeypatch, f"--images=folder:{pictures}", f"--output={output}")
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "my-report" / "report.json").read_text())
    assert report["too_small_for_p_values"] == ["blue", "green"]
    assert report["always_possible"] == ["green"]
    first, *others = report["looks_mislabelled"]
    assert (first["picture"], first["predicted"]) == ("green/blue.png", "blue")
    assert {one["label"] for one in others} <= {"red <b>"}
    notes = [
        "Classes of fewer than 21 pictures (blue, green) have no p < 0.05: a picture of "
        "theirs counts as unusual where it is taken for another class",
        "Classes of fewer than 19 pictures (green) are never ruled out at alpha=0.05: "
        "classify says of any picture that they are possible",
    ]
    text = html.unescape((tmp_path / "my-report" / "index.html").read_text("utf-8"))
    assert all(note in printed and note in text for note in notes)
    (found,) = taught.classify_pictures(
        monkeypatch, capsys, output, pictures / "red <b>" / "001.jpg"
    )
    assert found["possible"] == ["green", "red <b>"]


@pytest.mark.parametrize("alpha", [0.05, 0.07, 0.5, 1 / 49, 1 / 3, 1e-12])
def test_the_fewest_pictures_for_p_values(alpha):
    number = report.fewest_for_p_values(alpha)
    assert 1 / number < alpha <= 1 / (number - 1)


def test_a_picture_whose_name_is_no_text(monkeypatch, tmp_path, capsys):
    taught.use_small_backbone(monkeypatch)
    pictures = taught.write_pictures(tmp_path / "p", {"blue": 12, "green": 12})
    name = pictures / "green" / os.fsdecode(b"\xff.png")
    try:
        shutil.copy(pictures / "blue" / "000.png", name)
    except OSError:
        pytest.skip("The file system has no such names.")
    output = tmp_path / "my.keras"
    taught.run(monkeypatch, f"--images=folder:{pictures}", f"--output={output}")
    assert "\n  green/?.png looks like blue\n" in capsys.readouterr().out
    (line,) = taught.classify_pictures(monkeypatch, capsys, output, name, as_json=False)
    assert line.startswith(f"{pictures}/green/?.png: ")


def test_pictures_are_classified(model, monkeypatch, capsys, tmp_path):
    names = list(taught.PLACES)
    for place in taught.PLACES.values():
        picture = Image.fromarray(picture_folders.picture(place, 99))
        picture.save(tmp_path / f"{place}.png")
    grey = np.full((9, 9), 80, "uint8")
    Image.fromarray(grey).save(tmp_path / "3.png")
    found = taught.classify_pictures(monkeypatch, capsys, model, tmp_path)
    assert [one["class"] for one in found] == [*names, "unknown"]
    for one, name in zip(found, names, strict=False):
        assert one["picture"] == str(tmp_path / f"{taught.PLACES[name]}.png")
        assert one["p_value"] > 0.05
        assert name in one["possible"]
        assert one["nearest"]["class"] == name
    assert [one["known"] for one in found] == [True] * 3 + [False]
    assert found[3]["p_value"] == pytest.approx(1 / 77)
    lines = taught.classify_pictures(
        monkeypatch, capsys, model, tmp_path / "1.png", as_json=False
    )
    (line,) = lines
    assert line.startswith(f"{tmp_path / '1.png'}: green (p = ")


def test_a_class_that_is_called_unknown():
    nearest = {"picture": "b.png", "similarity": 1.0}
    found = {"picture": "a.png", "class": "unknown", "p_value": 0.5, "nearest": nearest}
    rejected = classify.in_words({**found, "known": False})
    assert rejected.startswith("a.png: unknown (p = 0.500)")
    known = classify.in_words({**found, "known": True})
    assert known.startswith("a.png: unknown, a class of that name (p = 0.500)")


def test_the_nearest_picture_and_its_features(model, pictures, monkeypatch, capsys):
    """A picture that was taught is its own nearest; all follows from the file's state."""
    path = pictures / "red <b>" / "004.gif"
    (found,) = taught.classify_pictures(monkeypatch, capsys, model, path)
    assert found["nearest"]["picture"] == str(path)
    assert found["nearest"]["similarity"] == pytest.approx(1.0)
    run = TaughtModel(model)
    images, labels = run.splits["train"]
    np.testing.assert_allclose(run.embed(images), run.training_features(), atol=1e-6)
    assert np.bincount(labels).tolist() == [25, 21, 30]
    calibration = run.model.calibration
    assert len(calibration.scores) == len(calibration.class_scores) == 76
    assert calibration.class_counts.tolist() == [25, 21, 30]


def test_explanations(model, pictures, monkeypatch, tmp_path):
    path = pictures / "green" / "000.png"
    output = tmp_path / "report"
    run(
        monkeypatch, explain, model=str(model), model_dir=None, images=[path], output=output
    )
    report = json.loads((output / "explanations.json").read_text())
    assert report["queries"][0]["predicted"] == "green"
    assert "Test accuracy" not in report["facts"]
    taught_report = json.loads((model.with_name("my-report") / "report.json").read_text())
    names = [str(name) for name in TaughtModel(model).pictures.names]
    for one in taught_report["classes"]:
        exemplars = [names[row] for row in report["exemplars"][one["name"]]]
        assert exemplars == one["exemplars"]


def test_a_gallery(model, monkeypatch, tmp_path):
    output = tmp_path / "gallery.html"
    run(monkeypatch, gallery, models=[str(model)], num_queries=76, output=str(output))
    page = read_page.shown(output.read_text("utf-8"))
    assert len(page["cards"]) == 76
    names = [str(name) for name in TaughtModel(model).pictures.names]
    for row, card in enumerate(page["cards"]):
        assert card["name"] == names[row]
        shown = card["sections"][0]["neighbours"]
        assert len(shown) == 3
        own = f"training image {row},"
        assert not any(near["picture"][0].startswith(own) for near in shown)


@pytest.mark.parametrize("ncm", [n for n in NAMES if n not in ("softmax", "lda")])
def test_every_method_learns_a_folder(ncm, pictures, monkeypatch, tmp_path, capsys):
    taught.use_small_backbone(monkeypatch)
    few = {"ranpac": ["--random_features=20"]}.get(ncm, [])
    output = tmp_path / "my.keras"
    taught.run(
        monkeypatch,
        f"--images=folder:{pictures}",
        f"--output={output}",
        f"--ncm={ncm}",
        *few,
    )
    found = taught.classify_pictures(
        monkeypatch, capsys, output, pictures / "green" / "002.webp"
    )
    assert found[0]["class"] in ("green", "unknown")
    report = json.loads((tmp_path / "my-report" / "report.json").read_text())
    assert report["accuracy"] > 0.9
    assert report["method"] == ncm


def test_a_seed_gives_the_same_model(pictures, monkeypatch, tmp_path):
    taught.use_small_backbone(monkeypatch)
    arguments = [f"--images=folder:{pictures}", "--ncm=dnc", "--seed=1"]
    models = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}.keras"
        taught.run(monkeypatch, *arguments, f"--output={path}")
        models.append(TaughtModel(path).model)
    one, two = models
    np.testing.assert_array_equal(one.calibration.scores, two.calibration.scores)
    for first, second in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_seed_decides_who_judges_whom(pictures):
    folds = [
        Lesson(teach.resolve(f"folder:{pictures}", {"seed": seed})).folds(alpha=0.05)
        for seed in (0, 1)
    ]
    assert (folds[0] != folds[1]).any()


def test_a_folder_with_a_test(monkeypatch, tmp_path, capsys):
    taught.use_small_backbone(monkeypatch)
    taught.write_pictures(tmp_path / "p" / "train")
    for name in ("blue", "green"):
        picture_folders.write_class(tmp_path / "p" / "test" / name, taught.PLACES[name], 3)
    taught.run(
        monkeypatch, f"--images=folder:{tmp_path / 'p'}", f"--output={tmp_path / 'm.keras'}"
    )
    assert "of the 6 pictures in test/" in capsys.readouterr().out
    report = json.loads((tmp_path / "m-report" / "report.json").read_text())
    assert (report["pictures"], report["test_accuracy"]) == (75, 1.0)


def test_help_and_bad_flags_do_without_tensorflow():
    code = (
        "import sys; from deepncm_tf import classify, imagenet_main, teach; "
        "sys.exit(bool({'tensorflow', 'keras', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_scores_are_those_of_the_models():
    assert set(teach.SCORES) == set(rejection.SCORES)
