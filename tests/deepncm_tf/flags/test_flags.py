# SPDX-License-Identifier: Apache-2.0
"""What flags are where none is given, and what a classifier gets of them."""

import json
import pathlib

import numpy as np
import pytest

from deepncm_tf import classifiers, flags


def test_defaults_are_the_published_run():
    config = flags.resolve({})
    expected = {
        "ncm": "decay",
        "decay": 0.9,
        "dataset": "cifar10",
        "label": "fine",
        "resnet_size": 32,
        "resnet_version": 2,
        "batch_size": 128,
        "train_epochs": 250,
        "learning_rate": 0.1,
        "weight_decay": 2e-4,
        "gradient_clip": 1.0,
        "dtype": "fp32",
        "validation_fraction": 0.0,
    }
    assert {name: config[name] for name in expected} == expected
    assert "condensation_steps" not in config
    assert flags.num_classes(config) == 10


def test_digits_have_their_own_defaults():
    config = flags.resolve({"dataset": "digits"})
    assert (config["resnet_size"], config["batch_size"], config["train_epochs"]) == (
        8,
        32,
        20,
    )
    assert flags.resolve({"dataset": "digits", "batch_size": 64})["batch_size"] == 64


def test_classifier_arguments_are_those_of_the_constructor():
    values = {"ncm": "dnc", "num_sub_centroids": "2", "memory_batches": 3, "batch_size": 5}
    values |= {"logit_norm": "0.5", "feature_norm": "none", "centroid_momentum": 0.5}
    arguments = flags.classifier_arguments(flags.resolve(values))
    assert arguments == {
        "num_classes": 10,
        "num_sub_centroids": 2,
        "momentum": 0.5,
        "momentum_schedule": "learning_rate",
        "memory_size": 20,  # the batch is one of them
        "clustering": "sinkhorn",
        "sinkhorn_epsilon": 0.05,
        "sinkhorn_iterations": 3,
        "initializer": "orthogonal",
        "feature_norm": None,
        "logit_norm": 0.5,
    }
    values = {"ncm": "dnc", "num_sub_centroids": "auto", "logit_norm": "layer"}
    none = flags.resolve({"ncm": "dnc", "memory_batches": 0})
    assert flags.classifier_arguments(none)["memory_size"] == 0
    layer = flags.resolve(values)
    assert flags.classifier_arguments(layer)["num_sub_centroids"] == "auto"
    assert flags.classifier_arguments(layer)["logit_norm"] == "layer"
    assert flags.classifier_arguments(layer)["feature_norm"] == "layer"


def test_class_means_with_cosines():
    for method in ("online", "condensation", "decay"):
        values = {"ncm": method, "metric": "cosine", "center": "mean"}
        config = flags.resolve({**values, "logit_temperature": 0.1})
        arguments = flags.classifier_arguments(config)
        expected = {"metric": "cosine", "center": "mean", "unit_length": False}
        assert {**arguments, **expected, "temperature": 0.1} == arguments
        assert "metric=cosine_center=mean_logit_temperature=0.1" in flags.run_name(config)
        classifier = classifiers.NAMES[method](**arguments)
        assert classifier.center == "mean"
        plain = flags.classifier_arguments(flags.resolve({"ncm": method}))
        assert (plain["center"], plain["temperature"]) == (None, 1.0)


@pytest.mark.parametrize(
    ("name", "value", "plain"),
    [
        ("seed", np.int64(1), 1),
        ("batch_size", np.array(8), 8),
        ("learning_rate", 1, 1.0),
        ("learning_rate", np.float32(0.5), 0.5),
        ("learning_rate", np.int32(1), 1.0),
        ("overwrite", np.bool_(True), True),
        ("model_dir", pathlib.Path("runs/a"), "runs/a"),
        ("data_dir", pathlib.Path("data"), "data"),
        ("dtype", np.str_("bf16"), "bf16"),
        ("num_sub_centroids", 4, "4"),
        ("num_sub_centroids", np.int64(4), "4"),
        ("logit_norm", 0.5, "0.5"),
        ("logit_norm", np.float64(2.0), "2"),
        ("train_epochs", None, 250),
    ],
    ids=str,
)
def test_values_of_python_programs_are_made_plain(name, value, plain):
    config = flags.resolve({"ncm": "dnc", name: value})
    assert config[name] == plain
    stored = json.loads(json.dumps(config))  # as config.json
    assert repr(stored[name]) == repr(plain)
