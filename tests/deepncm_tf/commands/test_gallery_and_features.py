# SPDX-License-Identifier: Apache-2.0
"""gallery and features: a page of models side by side, and the projector's files."""

import re
import shutil

import check_pages
import keras
import pytest
import read_page
from command_lines import run

from deepncm_tf import features, flags, gallery
from deepncm_tf.data import datasets
from deepncm_tf.runs import training


def test_gallery(finished, patch, tmp_path):
    method, folder = finished
    output = tmp_path / "pages" / "gallery.html"
    run(patch, gallery, model_dirs=[str(folder)], output=str(output))
    page = read_page.shown(output.read_text("utf-8"))
    assert page["facts"] == {"Dataset": "digits", f"Model {method}": folder.name}
    assert models_shown(page) == [method]
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


def test_short_names_of_runs(monkeypatch):
    """A method's name, with what tells its runs apart; or else those of the folders."""
    configs = {
        "a/one": flags.resolve({"ncm": "softmax", "dataset": "digits"}),
        "a/two": flags.resolve({"ncm": "decay", "dataset": "digits"}),
        "a/three": flags.resolve({"ncm": "decay", "dataset": "digits", "decay": 0.5}),
    }
    monkeypatch.setattr(gallery, "read_config", configs.__getitem__)
    short = gallery.short_names([*configs])
    assert short == ["softmax", "decay, decay=0.9", "decay, decay=0.5"]
    configs["b/one"] = configs["a/two"]
    assert gallery.short_names(["a/two", "b/one"]) == ["two", "one"]


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
        (folder, "must have different names"),
    ):
        with pytest.raises(SystemExit):
            run(patch, gallery, model_dirs=[str(folder), str(other)], output=output)
        assert message in capsys.readouterr().err


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("name", "values", "received"),
    [
        ("known_classes", ("2-9", "0-7"), "['0-7', '2-9']"),
        ("known_classes", ("0-7", None), "['0-7', 'None']"),
        ("test_dataset", ("folder:/a", None), "['None', 'folder:/a']"),
    ],
)
def test_a_gallery_is_of_the_same_images(monkeypatch, name, values, received):
    config = flags.resolve({"ncm": "online", "dataset": "digits"})
    configs = {f"a/{i}": {**config, name: value} for i, value in enumerate(values)}
    monkeypatch.setattr(gallery, "read_config", lambda path, flag: configs[path])
    message = f"--model_dirs must be of runs with one --{name}. Received: {received}"
    with pytest.raises(ValueError, match=re.escape(message)):
        gallery.check([*configs])
