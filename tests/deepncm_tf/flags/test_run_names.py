# SPDX-License-Identifier: Apache-2.0
"""Which values are one run, and the name that a run has by them."""

import pytest

from deepncm_tf import flags


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
