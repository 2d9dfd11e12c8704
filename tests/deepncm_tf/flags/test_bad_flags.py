# SPDX-License-Identifier: Apache-2.0
"""Every flag with a range refuses what is outside it, in clear words."""

import pathlib

import numpy as np
import pytest

from deepncm_tf import flags


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
        ({"dataset": "folder:"}, "fashion_mnist, folder:PATH or tfds:NAME. Received"),
        ({"dataset": "tfds:"}, "fashion_mnist, folder:PATH or tfds:NAME. Received"),
        ({"on_bad_image": "ignore"}, "--on_bad_image must be one of fail, skip"),
        (
            {"on_bad_image": "skip", "test_dataset": "digits"},
            "--on_bad_image=skip needs --dataset=folder:PATH or --test_dataset=folder:PATH"
            ". Received: --dataset=cifar10 and --test_dataset=digits",
        ),
        (
            {"dataset": "folder:x", "device_dataset": True},
            "--device_dataset must be off where pictures are read from files. Received: ",
        ),
        ({"image_size": 7}, "--image_size must be an integer from 8 to 4096"),
        ({"image_size": 10**9}, "Received: --image_size=1000000000"),
        ({"backbone": "resnet9"}, "--backbone must be resnet18, .*--backbone=resnet9"),
        ({"backbone": "resnet20", "weights": ""}, "--weights must be pretrained, or the"),
        ({"weights": "pretrained"}, "--weights needs --backbone, such as"),
        ({"freeze": True}, "--freeze needs --weights with --backbone, or --init_from"),
        (
            {"backbone": "resnet50", "freeze": True},
            "--freeze with --backbone=resnet50",
        ),
        ({"unfreeze_after": 0}, "--unfreeze_after must be an integer >= 1"),
        ({"init_from": ""}, "--init_from must be the folder of a finished run"),
        ({"test_dataset": "mnist"}, "--test_dataset must be one of cifar10, cifar100"),
        ({"middle": 0.0}, r"--middle must be a number in \(0, 1\]. Received: --middle=0.0"),
        (
            {"backbone": "resnet20", "resnet_size": 20},
            "--resnet_size is the depth .*--resnet_size=20 with --backbone=resnet20",
        ),
        (
            {"backbone": "efficientnet_lite0", "resnet_version": 1},
            "--resnet_version needs --backbone=resnet50 or .*efficientnet_lite0",
        ),
        (
            {"backbone": "resnet18", "weights": "pretrained"},
            "--weights=pretrained needs --backbone=efficientnet_lite0, .*=resnet18",
        ),
        ({"label": "medium"}, "--label must be one of fine, coarse"),
        ({"label": "coarse"}, "--label=coarse needs .*Received: --dataset=cifar10"),
        ({"known_classes": "a"}, "--known_classes must be numbers of classes"),
        ({"known_classes": "0-10"}, "two or more of the classes 0-9 of --dataset=cifar10"),
        ({"known_classes": "3"}, "two or more of the classes 0-9"),
        (
            {"known_classes": "0", "dataset": "folder:x"},
            "--known_classes must be two or more of the classes of --dataset=folder:",
        ),
        ({"known_classes": "2", "dataset": "tfds:x"}, "two or more of the classes of --d"),
        (
            {"known_classes": "0-6", "dataset": "digits", "label": "coarse"},
            "--known_classes needs --label=fine. Received: --known_classes=0-6",
        ),
        ({"validation_fraction": 1.0}, "--validation_fraction must be a number in"),
        ({"batch_size": 0}, "--batch_size must be an integer >= 1"),
        ({"train_epochs": -1}, "--train_epochs must be an integer >= 1"),
        ({"max_train_steps": 0}, "--max_train_steps must be an integer >= 1"),
        ({"epochs_between_evals": 0}, "--epochs_between_evals must be an integer >= 1"),
        ({"augmentation": "more"}, "--augmentation must be one of standard, reflect, snca"),
        ({"recipe": "adam"}, "--recipe must be one of official, snca, fast"),
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
        ({"shrinkage": 0.0}, r"--shrinkage must be a number in \(0, 1\]"),
        ({"random_features": 0}, "--random_features must be an integer >= 1"),
        ({"ridge": "best"}, "--ridge must be auto, or a positive number"),
        ({"accumulate_steps": 0}, "--accumulate_steps must be an integer >= 1"),
        ({"num_sub_centroids": "4"}, "--num_sub_centroids belongs to --ncm=dnc"),
        (
            {"metric": "cosine", "ncm": "dnc"},
            "--metric belongs to --ncm=decay and condensation and online; .*=cosine with "
            "--ncm=dnc",
        ),
        ({"anchor_epochs": -1, "ncm": "dnc"}, "--anchor_epochs must be an integer >= 0"),
        (
            {"anchor_epochs": 5, "ncm": "dnc", "train_epochs": 4},
            "--anchor_epochs must be at most --train_epochs=4. Received: .*=5",
        ),
        (
            {
                "anchor_epochs": 5,
                "ncm": "dnc",
                "distribution_strategy": "multi_worker_mirrored",
            },
            "--anchor_epochs needs one machine. .*=5 with --distribution_strategy=multi",
        ),
        ({"center": "mean"}, "--center=mean needs --metric=cosine, without --unit_length"),
        (
            {"center": "mean", "metric": "cosine", "unit_length": True},
            "Received: --metric=cosine and --unit_length=True",
        ),
        ({"logit_temperature": 0.0}, "--logit_temperature must be a positive number"),
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


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"overwrite": "false"}, "--overwrite must be of type bool. Received: .*='false'"),
        ({"overwrite": 1}, "--overwrite must be of type bool. Received: --overwrite=1"),
        ({"batch_size": 32.5}, "--batch_size must be an integer >= 1. .*batch_size=32.5"),
        ({"batch_size": 32.0}, "--batch_size must be an integer >= 1. .*batch_size=32.0"),
        ({"batch_size": "32"}, "--batch_size must be an integer >= 1. .*batch_size='32'"),
        ({"batch_size": True}, "--batch_size must be an integer >= 1. .*batch_size=True"),
        ({"batch_size": [32]}, r"--batch_size must be an integer .*batch_size=\[32\]"),
        ({"resnet_version": 1.0}, "--resnet_version must be 1 or 2. .*=1.0"),
        ({"learning_rate": "1"}, "--learning_rate must be a positive number. .*='1'"),
        ({"learning_rate": 10**400}, "--learning_rate must be a positive number"),
        ({"learning_rate": True}, "--learning_rate must be a positive number. .*=True"),
        ({"weight_decay": np.bool_(True)}, "--weight_decay must be a number >= 0"),
        ({"dtype": 32}, "--dtype must be one of fp32, bf16, fp16. Received: --dtype=32"),
        ({"dtype": ["fp32"]}, r"--dtype must be one of .*dtype=\['fp32'\]"),
        ({"dataset": 10}, "--dataset must be one of cifar10.*Received: --dataset=10"),
        ({"dataset": pathlib.Path("x")}, "--dataset must be one of cifar10, .*=x"),
        ({"model_dir": b"run"}, "--model_dir must be the name of a folder. .*=b'run'"),
        ({"data_dir": 3}, "--data_dir must be of type str. Received: --data_dir=3"),
        ({"num_sub_centroids": True}, "integer >= 1, or auto. .*num_sub_centroids=True"),
        ({"num_sub_centroids": 1.5}, "integer >= 1, or auto. .*num_sub_centroids=1.5"),
        ({"known_classes": [0, 1]}, r"--known_classes must be numbers of .*=\[0, 1\]"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_values_of_another_type(values, message):
    with pytest.raises(flags.FlagError, match=message):
        flags.resolve({"ncm": "dnc", **values})
