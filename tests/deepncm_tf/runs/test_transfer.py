# SPDX-License-Identifier: Apache-2.0
"""Runs that begin with what another has learnt: --init_from, --freeze, --unfreeze_after."""

import json
import shutil

import numpy as np
import pytest
from helpers import small_backbone, to_numpy
from interrupting import InterruptedRunError, interrupt
from methods import others_are_thorough
from same_run import assert_same_run, metrics
from small_runs import config, use_few_digits, use_small_network

from deepncm_tf import flags, runs
from deepncm_tf.classifiers import NAMES
from deepncm_tf.data import datasets, pipeline
from deepncm_tf.runs import training, transfer
from deepncm_tf.runs.finished_run import FinishedRun
from official_resnet import cifar_resnet


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Runs on pairs of digits, of softmax and of DNC without an embedding."""
    folder = tmp_path_factory.mktemp("sources")
    with pytest.MonkeyPatch.context() as patch:
        use_few_digits(patch)
        use_small_network(patch)
        for ncm in ("softmax", "dnc"):
            values = {"ncm": ncm, "label": "coarse", "train_epochs": 1, "embedding_dim": 0}
            training.run(config(folder / ncm, **values))
    return folder


@pytest.fixture(autouse=True)
def small(few_digits, small_network):
    """Few digits, a small network."""


def transferred(folder, source, **values):
    values = {"init_from": str(source), "embedding_dim": 0, "train_epochs": 1, **values}
    return config(folder, **values)


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


def train(folder):
    """Training images and labels of ten digits, and the model that a run begins with."""
    images, labels = datasets.load("digits")["train"]
    return pipeline.standardize(images), labels, FinishedRun(folder).model


@pytest.mark.parametrize("ncm", others_are_thorough(NAMES, ["dnc"]))
def test_all_but_the_state_of_classes(tmp_path, sources, ncm, monkeypatch):
    """A model of ten classes begins with the network, and with the means of all images."""
    begun = []
    begin = transfer.begin

    def begin_and_look(config, model, *args):
        begin(config, model, *args)
        begun.append([v.numpy() for v in model.variables])
        begun.append(model)

    monkeypatch.setattr(transfer, "begin", begin_and_look)
    source = sources / ("dnc" if ncm == "dnc" else "softmax")
    result = training.run(transferred(tmp_path / "run", source, ncm=ncm))
    values, model = begun
    for variable, value in zip(model.variables, values, strict=True):
        variable.assign(value)
    images, labels, known = train(source)
    for mine, theirs in zip(
        model.backbone.get_weights(), known.backbone.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    features = known.embed(images, verbose=0)
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(
        model.embed(images, verbose=0), units if ncm == "nca" else features, atol=1e-5
    )
    assert (
        result["initial_test_accuracy"]
        == result_of(tmp_path / "run")["initial_test_accuracy"]
    )
    if ncm == "softmax":
        return
    x, y = datasets.load("digits")["test"]
    logits = to_numpy(model.classifier(model.embed(pipeline.standardize(x), verbose=0)))
    accuracy = (logits.argmax(axis=-1) == y).mean()
    np.testing.assert_allclose(result["initial_test_accuracy"], accuracy, atol=1e-6)
    if ncm in ("online", "condensation", "decay"):
        means = np.stack([features[labels == c].mean(axis=0) for c in range(10)])
        # Features are of the order of 100, and float32 adds them up otherwise.
        np.testing.assert_allclose(model.classifier.means, means, rtol=1e-5, atol=1e-3)
    if ncm == "nca":
        np.testing.assert_allclose(model.classifier.bank, units, atol=1e-5)
        np.testing.assert_array_equal(model.classifier.bank_labels, labels)
    if ncm == "dnc":
        for mine, theirs in zip(
            model.classifier.feature_variables,
            known.classifier.feature_variables,
            strict=True,
        ):
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.thorough
def test_a_resumed_run_ends_where_it_would_have(tmp_path, sources, monkeypatch):
    values = {"ncm": "decay", "train_epochs": 2, "freeze": True, "unfreeze_after": 1}
    training.run(transferred(tmp_path / "whole", sources / "softmax", **values))
    for where in ("between", "batch"):
        with monkeypatch.context() as patch:
            interrupt(patch, 0 if where == "between" else 1, where)
            with pytest.raises(InterruptedRunError):
                training.run(transferred(tmp_path / "cut", sources / "softmax", **values))
    training.run(transferred(tmp_path / "cut", sources / "softmax", **values))
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert "initial_test_accuracy" in result_of(tmp_path / "cut")


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(None, marks=pytest.mark.thorough),
        1,
        pytest.param(2, marks=pytest.mark.thorough),
    ],
)
def test_the_network_is_trained_from_an_epoch_on(tmp_path, sources, after, monkeypatch):
    """Its weights after each of three epochs, beside those that it began with."""
    seen = []
    end = training.EpochReport.on_epoch_end

    def look(self, epoch, logs=None):
        seen.append(self.model.backbone.get_weights())
        end(self, epoch, logs)

    monkeypatch.setattr(training.EpochReport, "on_epoch_end", look)
    values = {"freeze": True, "unfreeze_after": after, "train_epochs": 3}
    source = sources / "softmax"
    training.run(transferred(tmp_path / "run", source, ncm="softmax", **values))
    first = FinishedRun(source).model.backbone.get_weights()
    changed = [
        any((a != b).any() for a, b in zip(weights, first, strict=True)) for weights in seen
    ]
    assert changed == [after is not None and epoch >= after for epoch in range(3)]
    assert len(metrics(tmp_path / "run")) == 3


def test_other_parts_than_the_network_are_trained(tmp_path, sources):
    values = {"ncm": "softmax", "freeze": True}
    training.run(transferred(tmp_path / "run", sources / "softmax", **values))
    result = result_of(tmp_path / "run")
    assert result["final_test_accuracy"] != result["initial_test_accuracy"]


@pytest.mark.thorough
def test_the_first_means_on_two_devices(tmp_path, sources):
    for name, values in (
        ("one", {}),
        ("two", {"distribution_strategy": "mirrored", "num_devices": 2}),
    ):
        values = {"ncm": "decay", **values}
        training.run(transferred(tmp_path / name, sources / "softmax", **values))
    one, two = (result_of(tmp_path / name) for name in ("one", "two"))
    assert one["initial_test_accuracy"] == pytest.approx(two["initial_test_accuracy"])


def test_what_a_run_began_with_may_be_gone_when_it_goes_on(tmp_path, sources, monkeypatch):
    """Another run, or a file of weights: checkpoints hold what became of them."""
    other = tmp_path / "other"
    shutil.copytree(sources / "softmax", other)
    weights = tmp_path / "other.weights.h5"
    cifar_resnet(8).save_weights(weights)
    several = {
        "run": transferred(tmp_path / "run", other, ncm="softmax"),
        "weights": config(
            tmp_path / "weights", ncm="softmax", backbone="resnet8", weights=str(weights),
            train_epochs=1,
        ),
    }  # fmt: skip
    for values in several.values():
        with monkeypatch.context() as patch:
            interrupt(patch, 0, "batch")
            with pytest.raises(InterruptedRunError):
                training.run({**values, "checkpoint_every_steps": 1})
    shutil.rmtree(other)
    weights.unlink()
    for values in several.values():
        assert training.run(values)["epochs"] == 1
        with pytest.raises(runs.RunError, match=r"--init_from must be|--weights"):
            training.run({**values, "overwrite": True})


def test_the_averages_of_a_beginning_do_not_lag(tmp_path, sources, capsys):
    values = {"ncm": "softmax", "max_train_steps": 1}
    training.run(transferred(tmp_path / "run", sources / "softmax", **values))
    assert "initial values" not in capsys.readouterr().out


def test_a_run_without_a_beginning_has_no_initial_figures(sources):
    assert "initial_test_accuracy" not in result_of(sources / "softmax")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"init_from": "/no/where"}, "--init_from must be the folder of a run"),
        ({"resnet_size": 20}, r"--resnet_size: 8 there, 20 here\)"),
        ({"embedding_dim": 7}, "--embedding_dim: None there, 7 here"),
        ({"image_size": 16}, "--image_size: 32 there, 16 here"),
        ({"backbone": "resnet20"}, "--backbone: None there, resnet20 here"),
    ],
)
def test_runs_that_do_not_fit(tmp_path, sources, values, message):
    with pytest.raises(runs.RunError, match=message):
        training.run(transferred(tmp_path / "run", sources / "softmax", **values))
    assert not (tmp_path / "run").exists()


@pytest.mark.bad_input
def test_a_run_does_not_begin_with_itself(tmp_path, sources):
    source = tmp_path / "source"
    shutil.copytree(sources / "softmax", source)
    (tmp_path / "link").symlink_to(source)
    before = {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()}
    for path in (source, tmp_path / "link"):
        with pytest.raises(runs.RunError, match="--init_from must be another folder than"):
            training.run(transferred(source, path, overwrite=True))
    after = {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()}
    assert after == before


@pytest.mark.bad_input
def test_a_run_that_is_not_finished(tmp_path, sources):
    (tmp_path / "other").mkdir()
    text = (sources / "softmax" / "config.json").read_text()
    (tmp_path / "other" / "config.json").write_text(text)
    with pytest.raises(runs.RunError, match="must be the folder of a finished run; this"):
        training.run(transferred(tmp_path / "run", tmp_path / "other"))


@pytest.mark.bad_input
def test_a_network_of_other_shapes(tmp_path, sources, monkeypatch):
    """The flags say the same, but the network is another."""

    def network(depth, version, input_shape, bn_momentum):
        return small_backbone(input_shape, normalize=False)

    monkeypatch.setattr(training, "cifar_resnet", network)
    with pytest.raises(runs.RunError, match="same network"):
        training.run(transferred(tmp_path / "run", sources / "softmax"))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"freeze": True}, "--freeze needs --weights with --backbone, or --init_from"),
        ({"unfreeze_after": 1}, "--unfreeze_after needs --freeze"),
        (
            {"init_from": "a", "freeze": True, "unfreeze_after": 3, "train_epochs": 3},
            "more epochs in --train_epochs=3. Received: --unfreeze_after=3",
        ),
        (
            {"init_from": "a", "weights": "pretrained", "backbone": "efficientnet_lite0"},
            "--weights and --init_from are two beginnings",
        ),
    ],
)
def test_flags_that_do_not_go_together(values, message):
    with pytest.raises(flags.FlagError, match=message):
        flags.resolve(values)


def test_paths_that_name_one_run():
    one, other = (flags.resolve({"init_from": p}) for p in ("runs/a", "./runs//a/"))
    assert one == other
