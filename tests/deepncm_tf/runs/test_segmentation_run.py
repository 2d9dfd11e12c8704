# SPDX-License-Identifier: Apache-2.0
"""Runs of segmentation: their folder, resumed to the bit, explained; what is refused."""

import json
import re

import mask_folders
import numpy as np
import pytest
from command_lines import run as run_command
from interrupting import InterruptedRunError, interrupt, stop_at
from PIL import Image
from same_run import assert_same_run, metrics

from deepncm_tf import evaluate, explain, flags, runs
from deepncm_tf.data import segmentation
from deepncm_tf.runs import pixel_report, training
from deepncm_tf.runs.finished_segmentation import FinishedSegmentation
from deepncm_tf.utils import signals
from deepncm_tf.utils.errors import RunError


def config(folder, **values):
    """Two epochs of three steps on ten of the shapes, through few channels."""
    values = {"decoder": "fcn", "decoder_width": 4, "batch_size": 4, **values}
    values = {"train_epochs": 2, "num_sub_centroids": "2", "pixels_per_class": 50, **values}
    return flags.resolve({**values, "model_dir": str(folder)})


@pytest.fixture(scope="module")
def patch():
    load = segmentation.load

    def load_few(*args, **kwargs):
        splits = load(*args, **kwargs)
        sizes = {"train": 10, "test": 3}
        return {n: tuple(part[: sizes[n]] for part in s) for n, s in splits.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmentation, "load", load_few)
        yield patch


@pytest.fixture(scope="module")
def finished(patch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    training.run(config(folder))
    return folder


def test_what_a_run_leaves(finished):
    result = json.loads((finished / "result.json").read_text())
    entries = metrics(finished)
    assert len(entries) == 2
    last = entries[-1]
    assert result["final_test_mean_iou"] == last["test_mean_iou"]
    assert result["best_test_mean_iou"] == max(e["test_mean_iou"] for e in entries)
    assert result["final_test_accuracy"] == last["test_accuracy"]
    ious = [value for name, value in last.items() if name.startswith("test_iou_")]
    np.testing.assert_allclose(last["test_mean_iou"], np.mean(ious), rtol=1e-5)
    assert -1 <= last["spread"] <= 1
    assert result["identity"]["decoder"] == "fcn"
    with Image.open(finished / "overlays.png") as sheet:
        assert sheet.size == (2 + 3 * 66, 2 + 3 * 66)  # three images, three pictures each
    summaries = list((finished / "summaries" / "test").iterdir())
    assert any(path.name.endswith(".overlays") for path in summaries)
    rates = [entry["learning_rate"] for entry in entries]
    steps = [entry["step"] for entry in entries]
    np.testing.assert_allclose(
        rates, [0.1 * (1 - (step - 1) / 6) ** 0.9 for step in steps], rtol=1e-5
    )


@pytest.mark.bad_input
def test_another_picture_than_the_run_was_begun_with(tmp_path, monkeypatch):
    mask_folders.write(tmp_path / "p", 5)
    values = {"dataset": f"folder:{tmp_path / 'p'}", "image_shape": "12x16"}
    begun = config(tmp_path / "run", **values)
    with monkeypatch.context() as patch:
        patch.setattr(training, "_train", lambda *args: 1 / 0)  # it ends before a step
        with pytest.raises(ZeroDivisionError):
            training.run(begun)
    (tmp_path / "run" / "model.keras").touch()  # as if it were finished
    with pytest.raises(RunError, match=r"model\.keras cannot be read"):
        FinishedSegmentation(tmp_path / "run")
    mask_folders.write(tmp_path / "p", 6)
    message = r"other pictures in folder:.* \(train: 5 then, 6 now\)\. Put those back"
    with pytest.raises(RunError, match=rf"{message}\.$"):
        FinishedSegmentation(tmp_path / "run")
    with pytest.raises(RunError, match=f"{message}, or give --overwrite"):
        training.run(begun)


def test_metrics_are_those_of_the_saved_model(finished, patch):
    run = FinishedSegmentation(finished)
    images, masks = run.splits["test"]
    _, predicted = run.predict(images)
    known = masks != 255
    accuracy = np.mean((predicted == masks)[known])
    assert metrics(finished)[-1]["test_accuracy"] == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.parametrize(
    "where", ["inside", pytest.param("between", marks=pytest.mark.thorough)]
)
def test_a_resumed_run_ends_where_it_would_have(finished, patch, tmp_path, where):
    resumed = config(tmp_path / "resumed")
    with pytest.MonkeyPatch.context() as interruption:
        if where == "inside":
            with pytest.raises(signals.StoppedError):
                stop_at(interruption, 5)
                training.run(resumed)
        else:
            with pytest.raises(InterruptedRunError):
                interrupt(interruption, 1, "after")
                training.run(resumed)
    assert not (tmp_path / "resumed" / "result.json").exists()
    training.run(resumed)
    assert_same_run(finished, tmp_path / "resumed")


def test_a_finished_run_is_not_repeated(finished, patch, capsys):
    before = (finished / "result.json").stat().st_mtime_ns
    training.run(config(finished))
    assert (finished / "result.json").stat().st_mtime_ns == before
    assert "Finished before: test mean IoU" in capsys.readouterr().out


def test_what_is_of_classes_never_shown_is_called_pixels(finished, patch, capsys):
    result = json.loads((finished / "result.json").read_text())
    with pytest.MonkeyPatch.context() as unseen:
        of_run = {**result, "final_test_unseen": 5.0}
        unseen.setattr(runs.RunFolder, "result", lambda folder: of_run)
        training.run(config(finished))
    warning = "Warning: 5 pixels of the test images' feature maps are of classes that"
    assert warning in capsys.readouterr().out


@pytest.mark.bad_input
def test_another_run_is_refused(finished):
    with pytest.raises(RunError, match="--decoder_width: 4 there, 5 here"):
        training.run(config(finished, decoder_width=5))


def test_explain(finished, patch, tmp_path, capsys):
    run_command(patch, explain, model_dir=str(finished), output=str(tmp_path / "report"))
    assert "pixels of 3 images explained by" in capsys.readouterr().out
    folder = tmp_path / "report"
    assert {path.name for path in folder.iterdir()} == {
        "index.html",
        "exemplars.png",
        "scores.png",
        "explanations.json",
    }
    content = json.loads((folder / "explanations.json").read_text())
    assert "AUROC of void pixels, distance" in content["facts"]
    run = FinishedSegmentation(finished)
    images, masks = run.splits["train"]
    height, width = run.model.features_shape[1:3]
    labels = run.labels_of_features(masks)
    for name, places in content["exemplars"].items():
        for place in places:
            image, row, column = np.unravel_index(place, (len(images), height, width))
            assert run.class_names[labels[image, row, column]] == name
    for query in content["queries"]:
        assert query["classes"][0]["class"] == query["predicted"]
        assert query["name"].startswith("test image ")
    html = (folder / "index.html").read_text()
    assert "Truth" in html
    assert "Prediction" in html


def test_an_image_without_labels_leaves_the_others_theirs(finished, patch, tmp_path):
    images, masks = segmentation.load("shapes", (64, 64))["test"]
    masks = masks.copy()
    masks[1] = 255
    with pytest.MonkeyPatch.context() as partly:
        queried = images, masks, ["0", "1", "2"]
        partly.setattr(pixel_report, "_queried", lambda *args: queried)
        pixel_report.write(finished, tmp_path / "report")
    content = json.loads((tmp_path / "report" / "explanations.json").read_text())
    names = segmentation.class_names("shapes")
    found, expected = {0: [], 1: [], 2: []}, {0: [], 1: [], 2: []}
    for query in content["queries"]:
        image, row, column = map(int, re.findall(r"\d+", query["name"]))
        label = masks[image, row, column]
        expected[image].append(None if label == 255 else names[label])
        found[image].append(query["label"])
    assert found == expected
    assert set(found[1]) == {None}
    assert None not in found[0]


def test_explain_pictures_of_ones_own(finished, patch, tmp_path):
    images, _ = segmentation.load("shapes", (64, 64))["test"]
    Image.fromarray(images[0]).save(tmp_path / "mine.png")
    run_command(
        patch,
        explain,
        model_dir=str(finished),
        output=str(tmp_path / "report"),
        images=[str(tmp_path / "mine.png")],
    )
    content = json.loads((tmp_path / "report" / "explanations.json").read_text())
    assert content["queries"][0]["name"].startswith("mine.png, row ")
    assert all(query["label"] is None for query in content["queries"])


@pytest.mark.bad_input
def test_other_commands_say_that_it_is_of_segmentation(finished, patch, capsys):
    with pytest.raises(SystemExit) as error:
        run_command(patch, evaluate, model_dir=str(finished))
    assert error.value.code == 1
    message = capsys.readouterr().err
    assert "must be the folder of a run of cifar_main" in message
    assert "of segmentation_main" in message
    assert len(message.splitlines()) == 1
