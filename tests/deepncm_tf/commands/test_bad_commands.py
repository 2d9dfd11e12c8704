# SPDX-License-Identifier: Apache-2.0
"""What the command lines refuse: flags, banks, runs, and places to write to."""

import errno
import pathlib
import tempfile

import pytest
from command_lines import run

from deepncm_tf import (
    continual,
    discover,
    evaluate,
    explain,
    features,
    few_shot,
    flags,
    gallery,
    runs,
)
from deepncm_tf.data import bank_files
from deepncm_tf.runs import finished_run, transfer


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
@pytest.mark.parametrize("module", [gallery, few_shot, continual])
def test_runs_of_segmentation_are_refused(patch, tmp_path, capsys, module):
    folder = write_run_of_segmentation(tmp_path / "run")
    flag = "model_dirs" if module is gallery else "model_dir"
    values = {flag: [folder] if module is gallery else folder}
    with pytest.raises(SystemExit) as ended:
        run(patch, module, output=str(tmp_path / "out.html"), **values)
    assert ended.value.code == 1
    assert (
        f"--{flag} must be the folder of a run of cifar_main. Received: --{flag}={folder}, "
        "of segmentation_main\n"
    ) in capsys.readouterr().err


@pytest.mark.bad_input
def test_a_run_does_not_begin_with_one_of_segmentation(tmp_path):
    other = write_run_of_segmentation(tmp_path / "other")
    config = flags.resolve({"init_from": other, "model_dir": str(tmp_path / "run")})
    with pytest.raises(runs.RunError, match=r"--init_from must .* of segmentation_main"):
        transfer.check(config)


def write_run_of_segmentation(path):
    values = {"decoder": "fcn", "dataset": "shapes", "model_dir": str(path)}
    folder = runs.RunFolder(flags.resolve(values))
    folder.open()
    folder.close()
    (path / "model.keras").touch()
    return str(path)


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
