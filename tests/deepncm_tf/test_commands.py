# SPDX-License-Identifier: Apache-2.0
"""The command lines that read a finished run: explain and discover."""

import json
import pathlib
import types

import pytest
import read_png
from small_runs import use_few_digits, use_small_network

from deepncm_tf import datasets, discover, explain, flags, pictures, runs, training

DEFAULTS = {
    explain: {"output": "report", "images": [], "num_queries": 100, "data_dir": None},
    discover: {"k": ["1", "5", "30"], "temperature": 0.05, "data_dir": None},
}


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        use_few_digits(patch)
        use_small_network(patch)
        yield patch


@pytest.fixture(scope="module", params=["dnc", "decay", "softmax"])
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
    assert numbers["queries"][3]["predicted"] in html
    sheet = read_png.pixels((out / "exemplars.png").read_bytes())
    assert sheet.shape[0] == pytest.approx(5 * 66, abs=8)
    run(patch, explain, model_dir=str(folder), output=str(out), num_queries=7)
    assert (out / "index.html").read_text("utf-8") == html  # again, the same


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


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("module", "values", "message"),
    [
        (explain, {"model_dir": None}, "explain: --model_dir=DIR is needed"),
        (explain, {"model_dir": "nowhere"}, "must be the folder of a run of cifar_main"),
        (explain, {"images": ["nowhere.png"]}, "--images must be image files"),
        (explain, {"images": [__file__]}, "--images must be image files"),
        (explain, {"output": __file__}, "--output must be a folder. Received: --output="),
        (explain, {"output": str(pathlib.Path(__file__).parent)}, "holds other files"),
        (discover, {"model_dir": None}, "discover: --model_dir=DIR is needed"),
        (discover, {"k": ["0"]}, "--k must be integers >= 1, separated by commas"),
        (discover, {"k": ["1", "x"]}, "Received: --k=1,x"),
        (discover, {"temperature": 0.0}, "--temperature must be a positive number"),
    ],
)
def test_bad_flags(finished, patch, tmp_path, capsys, module, values, message):
    values = {"model_dir": str(finished[1]), **values}
    if module is explain:
        values.setdefault("output", str(tmp_path / "report"))
    with pytest.raises(SystemExit) as ended:
        run(patch, module, **values)
    assert ended.value.code in (1, 2)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


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
