# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import pytest

from deepncm_tf import cifar_main, flags


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


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"ncm": "nearest"},
            "--ncm must be one of softmax, online, condensation, decay, dnc, nca",
        ),
        ({"decay": 1.2}, r"--decay must be a number in \[0, 1\). Received: --decay=1.2"),
        ({"decay": float("nan")}, "Received: --decay=nan"),
        (
            {"ncm": "condensation", "condensation_steps": 0},
            "must be an integer >= 1. Received: --condensation_steps=0",
        ),
        ({"resnet_size": 9}, r"--resnet_size must be 6n \+ 2 .* Received: --resnet_size=9"),
        ({"resnet_version": 3}, "--resnet_version must be 1 or 2"),
        ({"embedding_dim": -1}, "--embedding_dim must be an integer >= 0"),
        ({"dataset": "mnist"}, "--dataset must be one of cifar10, cifar100, digits"),
        ({"label": "medium"}, "--label must be one of fine, coarse"),
        ({"label": "coarse"}, "--label=coarse needs .*Received: --dataset=cifar10"),
        ({"validation_fraction": 1.0}, "--validation_fraction must be a number in"),
        ({"batch_size": 0}, "--batch_size must be an integer >= 1"),
        ({"train_epochs": -1}, "--train_epochs must be an integer >= 1"),
        ({"max_train_steps": 0}, "--max_train_steps must be an integer >= 1"),
        ({"epochs_between_evals": 0}, "--epochs_between_evals must be an integer >= 1"),
        ({"augmentation": "more"}, "--augmentation must be one of standard, snca"),
        ({"recipe": "adam"}, "--recipe must be one of official, snca"),
        ({"learning_rate": 0.0}, "--learning_rate must be a positive number"),
        ({"learning_rate": float("inf")}, "--learning_rate must be a positive number"),
        ({"weight_decay": -1.0}, "--weight_decay must be a number >= 0"),
        ({"gradient_clip": -1.0}, "--gradient_clip must be a number >= 0"),
        ({"seed": -1}, "--seed must be an integer in"),
        ({"dtype": "fp64"}, "--dtype must be one of fp32, bf16, fp16"),
        ({"distribution_strategy": "tpu"}, "--distribution_strategy must be one of"),
        ({"model_dir": ""}, "--model_dir must be the name of a folder"),
        ({"checkpoint_every_steps": 0}, "--checkpoint_every_steps must be an integer >= 1"),
        ({"batch_size": 2**31}, "--batch_size must be an integer >= 1"),
        ({"num_devices": 0}, "--num_devices must be an integer >= 1"),
        ({"num_devices": 2}, "--num_devices needs --distribution_strategy=mirrored"),
        (
            {"distribution_strategy": "mirrored", "jit_compile": "on"},
            "--jit_compile must be auto or off with --distribution_strategy=mirrored",
        ),
        (
            {"ncm": "softmax", "decay": 0.9},
            "--decay belongs to --ncm=decay; leave it out.*--decay=0.9 with --ncm=softmax",
        ),
        (
            {"num_sub_centroids": "many"},
            "--num_sub_centroids must be an integer >= 1, or auto",
        ),
        (
            {"num_sub_centroids": "0"},
            "--num_sub_centroids must be an integer >= 1, or auto",
        ),
        ({"centroid_momentum": 1.0}, r"--centroid_momentum must be a number in \[0, 1\)"),
        (
            {"centroid_momentum_schedule": "cosine"},
            "must be one of constant, learning_rate",
        ),
        (
            {"accumulate_steps": 9, "batch_size": 8},
            "--accumulate_steps must be at most --batch_size=8. .*accumulate_steps=9",
        ),
        (
            {"ncm": "nca", "bank_sharding": True},
            "--bank_sharding needs --distribution_strategy=mirrored. .*=one_device",
        ),
        ({"memory_batches": -1}, "--memory_batches must be an integer >= 0"),
        ({"clustering": "gmm"}, "--clustering must be one of sinkhorn, kmeans"),
        ({"sinkhorn_epsilon": 0.0}, "--sinkhorn_epsilon must be a positive number"),
        ({"sinkhorn_iterations": 0}, "--sinkhorn_iterations must be an integer >= 1"),
        (
            {"sub_centroid_initializer": "zeros"},
            "must be one of random, class, orthogonal, samples",
        ),
        ({"feature_norm": "batch"}, "--feature_norm must be one of layer, none"),
        ({"logit_norm": "-1"}, "--logit_norm must be layer, or a positive number"),
        ({"logit_norm": "big"}, "--logit_norm must be layer, or a positive number"),
        ({"logit_norm": "nan"}, "--logit_norm must be layer, or a positive number"),
        ({"logit_norm": "1e999"}, "--logit_norm must be layer, or a positive number"),
        ({"logit_norm": "1e-999"}, "--logit_norm must be layer, or a positive number"),
        ({"num_sub_centroids": "²"}, "must be an integer >= 1, or auto. .*=²"),
        ({"num_sub_centroids": "9" * 5000}, "must be an integer >= 1, or auto"),
        ({"num_sub_centroids": "9" * 20}, "must be an integer >= 1, or auto"),
        ({"num_sub_centroids": "1.5"}, "must be an integer >= 1, or auto"),
        ({"embedding_dim": 2**31}, "--embedding_dim must be an integer >= 0"),
        ({"max_train_steps": 2**63}, "--max_train_steps must be an integer >= 1"),
        ({"num_devices": 2**63}, "--num_devices must be an integer >= 1"),
        ({"checkpoint_every_steps": 2**63}, "--checkpoint_every_steps must be an integer"),
        ({"temperature": 0.0}, "--temperature must be a positive number"),
        ({"bank_momentum": 1.0}, r"--bank_momentum must be a number in \[0, 1\)"),
        ({"bank_momentum_schedule": "cosine"}, "must be one of constant, steps"),
        ({"accumulate_steps": 0}, "--accumulate_steps must be an integer >= 1"),
        ({"num_sub_centroids": "4"}, "--num_sub_centroids belongs to --ncm=dnc"),
        ({"condensation_steps": 5}, "--condensation_steps belongs to --ncm=condensation"),
        ({"depth": 8}, "There is no flag --depth"),
    ],
)
def test_bad_flags(values, message):
    with pytest.raises(flags.FlagError, match=message):
        flags.resolve(values)


def test_every_flag_with_a_range_is_in_the_table_of_bad_values():
    marks = test_bad_flags.pytestmark
    (table,) = (mark.args[1] for mark in marks if mark.name == "parametrize")
    tried = {name for values, _ in table for name in values}
    checked = {flag.name for flag in flags.FLAGS if flag.wanted}
    assert checked <= tried


def test_run_names():
    names = {
        flags.run_name(flags.resolve(values))
        for values in (
            {},
            {"decay": 0.5},
            {"ncm": "online"},
            {"ncm": "condensation"},
            {"resnet_size": 8},
            {"dataset": "digits"},
            {"seed": 1},
        )
    }
    assert len(names) == 7
    assert "cifar10_decay_decay=0.9_learning_rate=0.1_seed=0" in names
    assert "digits_decay_decay=0.9_learning_rate=0.1_seed=0" in names
    config = flags.resolve({"dataset": "digits"})
    assert config["model_dir"].endswith(flags.run_name(config))


@pytest.mark.parametrize(
    ("name", "text", "others"),
    [
        ("num_sub_centroids", "4", ("04", "+4", " 4 ", "0_4", "٤")),
        ("num_sub_centroids", "40", ("4_0", "0040")),
        ("num_sub_centroids", "auto", ()),
        ("logit_norm", "0.0625", (".0625", "6.25e-2", "0.06250", "+0.0625 ")),
        ("logit_norm", "2", ("2.0", "2.", "02", "2e0")),
        ("logit_norm", "layer", ()),
        ("weight_decay", 0.0, (-0.0, 0)),
        ("centroid_momentum", 0.0, (-0.0,)),
    ],
)
def test_one_value_is_one_run(name, text, others):
    one = flags.resolve({"ncm": "dnc", name: text})
    assert one[name] == text
    default = flags.resolve({"ncm": "dnc"})
    named = f"{name}={text}" in flags.run_name(one)
    assert named == (name == "num_sub_centroids" or text != default[name])
    for other in others:
        config = flags.resolve({"ncm": "dnc", name: other})
        assert repr(config) == repr(one)
        # A run that was begun before goes on: its config may hold the other text.
        assert repr(flags.identity({**one, name: other})) == repr(flags.identity(one))


def test_identity_keeps_what_is_no_value():
    config = {**flags.resolve({"ncm": "dnc"}), "logit_norm": "x", "learning_rate": None}
    identity = flags.identity(config)
    assert (identity["logit_norm"], identity["learning_rate"]) == ("x", None)


def test_embedding_is_the_method_s_own():
    def dimensions(**values):
        return flags.resolve(values)["embedding_dim"]

    assert dimensions() is None
    assert dimensions(embedding_dim=0) is None
    assert dimensions(ncm="dnc") == dimensions(ncm="nca") == 128
    assert dimensions(ncm="dnc", embedding_dim=0) is None
    names = {
        flags.run_name(flags.resolve({"ncm": "nca", **values}))
        for values in ({}, {"embedding_dim": 128}, {"embedding_dim": 0})
    }
    assert names == {
        "cifar10_nca_learning_rate=0.1_seed=0",
        "cifar10_nca_embedding_dim=None_learning_rate=0.1_seed=0",
    }


def test_long_run_names_are_cut_and_stay_apart():
    values = {
        "ncm": "dnc",
        "centroid_momentum": 0.9,
        "memory_batches": 10,
        "clustering": "kmeans",
        "sinkhorn_iterations": 5,
        "sub_centroid_initializer": "samples",
        "logit_norm": "0.07",
        "feature_norm": "none",
        "embedding_dim": 100,
        "weight_decay": 0.0005,
    }
    names = [
        flags.run_name(flags.resolve({**values, "seed": seed, "dataset": dataset}))
        for seed in (0, 1)
        for dataset in ("cifar10", "cifar100")
    ]
    assert len(set(names)) == 4
    assert all(len(name) <= 180 for name in names)


def test_identity_is_what_changes_the_result():
    one = flags.identity(flags.resolve({}))
    other = flags.resolve(
        {
            "model_dir": "elsewhere",
            "data_dir": "there",
            "distribution_strategy": "mirrored",
            "num_devices": 2,
            "overwrite": True,
        }
    )
    assert flags.identity(other) == one
    assert flags.identity(flags.resolve({"seed": 1})) != one


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "deepncm_tf.cifar_main", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_help():
    outcome = command("--help")
    assert outcome.returncode == 0
    assert not outcome.stderr
    for flag in flags.FLAGS:
        assert f"  --{'[no]' if flag.kind is bool else ''}{flag.name}:" in outcome.stdout
    assert "python -m deepncm_tf.cifar_main --ncm=decay" in outcome.stdout


def test_help_and_bad_flags_do_not_import_tensorflow():
    code = (
        "import sys; from deepncm_tf import cifar_main; import deepncm_tf; "
        "sys.exit(bool({'tensorflow', 'keras', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--decay=1.2"], "--decay must be a number in [0, 1). Received: --decay=1.2"),
        (["--decay=high"], "high"),
        (["--learnin_rate=1"], "Unknown command line flag 'learnin_rate'"),
        (["decay"], "Arguments must be flags, --name=value. Received: decay"),
    ],
)
def test_bad_command_lines(arguments, message):
    outcome = command(*arguments)
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("cifar_main: ")
    assert message in outcome.stderr
    assert len(outcome.stderr.splitlines()) <= 4


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "name", [flag.name for flag in flags.FLAGS if flag.kind in (int, float, bool)]
)
def test_wrong_types(name, capsys):
    with pytest.raises(SystemExit) as status:
        cifar_main.parse(["cifar_main", f"--{name}=much"])
    assert status.value.code == 2
    error = capsys.readouterr().err
    assert name in error
    assert "much" in error


@pytest.mark.bad_input
def test_unwritable_model_dir(tmp_path):
    (tmp_path / "file").touch()
    outcome = command("--dataset=digits", f"--model_dir={tmp_path / 'file' / 'run'}")
    assert outcome.returncode == 1
    assert "--model_dir must be a folder that can be written" in outcome.stderr


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
