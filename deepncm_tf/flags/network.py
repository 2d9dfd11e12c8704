# SPDX-License-Identifier: Apache-2.0
"""The flags of a run's images and network, and which of the latter go together."""

import os

from deepncm_tf import backbones
from deepncm_tf.data import datasets, segmentation_sets
from deepncm_tf.data.datasets import DATASETS, FOLDER
from deepncm_tf.flags.flag import Flag, FlagError, choice, integer
from deepncm_tf.utils.registry import METHODS

RESNET_VERSION = 2  # default of --resnet_version


def absolute_folder(dataset):
    """One name of a dataset, wherever a command is given; None stays."""
    if dataset is None or not dataset.startswith(FOLDER):
        return dataset
    return FOLDER + os.path.abspath(dataset.removeprefix(FOLDER))


def is_known(dataset):
    """Whether a dataset is known to one of the tasks."""
    return datasets.is_known(dataset) or segmentation_sets.is_known(dataset)


def normal_path(path):
    """One form of a path that stays relative, as the folders of runs are to each other."""
    return os.path.normpath(path)


def normal_weights(weights):
    """The same of a file of weights, which may be called as the pretrained ones are."""
    path = normal_path(weights)
    return weights if path == backbones.PRETRAINED else path


NETWORK_FLAGS = (
    integer(
        "embedding_dim",
        None,
        "Dimensions of a linear map between backbone and classifier, 0 for none; by "
        "default 128 for --ncm=dnc and --ncm=nca, else none. The number of classes gives "
        "DeepNCM's variant with equal parameters.",
        minimum=0,
        from_method={name: method.embedding_dim for name, method in METHODS.items()},
        task="classification",
    ),
    Flag(
        "dataset",
        str,
        "cifar10",
        f"<{'|'.join(DATASETS)}|folder:PATH|tfds:NAME>: Images to train on; PATH has a "
        "folder of pictures for each class, or train/ and test/ that have such folders; "
        "NAME is of another dataset of TFDS. Of segmentation "
        f"<{'|'.join(segmentation_sets.SETS)}|folder:PATH|tfds:NAME>, with images/ and "
        "masks/ in the folders.",
        f"one of {', '.join(DATASETS)}, folder:PATH or tfds:NAME",
        is_known,
        canonical=absolute_folder,
        from_task={"segmentation": "shapes"},
    ),
    Flag(
        "test_dataset",
        str,
        None,
        "Dataset with the same classes whose test images take the place of those of "
        "--dataset, such as tfds:imagenet_v2/matched-frequency; of a folder without test/ "
        "all.",
        f"one of {', '.join(DATASETS)}, folder:PATH or tfds:NAME",
        datasets.is_known,
        canonical=absolute_folder,
        task="classification",
    ),
    choice(
        "on_bad_image",
        "fail",
        ("fail", "skip"),
        "Whether to refuse a folder with pictures that cannot be read, or to do without.",
        task="classification",
    ),
    Flag(
        "image_size",
        int,
        None,
        "Height and width of the images; by default what --backbone is made for, or 32.",
        "an integer from 8 to 4096",
        lambda n: 8 <= n <= 4096,
        task="classification",
    ),
    Flag(
        "backbone",
        str,
        None,
        "Network from images to features, in place of the ResNet of --resnet_size: "
        f"{backbones.WANTED}.",
        backbones.WANTED,
        backbones.is_known,
    ),
    Flag(
        "weights",
        str,
        None,
        "What --backbone begins with: pretrained, or the path of a file of its weights; by "
        "default random ones.",
        "pretrained, or the path of a file",
        bool,
        canonical=normal_weights,
    ),
    Flag(
        "freeze",
        bool,
        False,
        "Leaves the network's --weights, or what it has from --init_from, as they are, and "
        "trains what comes after it.",
    ),
    integer(
        "unfreeze_after",
        None,
        "Epochs after which what --freeze leaves as it is is trained, too.",
        task="classification",
    ),
    Flag(
        "init_from",
        str,
        None,
        "Folder of a finished run, of which this one takes all that was learnt but the "
        "state of classes; those of a method without weights of classes are then those of "
        "all training images.",
        "the folder of a finished run",
        bool,
        canonical=normal_path,
        task="classification",
    ),
)


def check(config, values):
    """Leaves out the flags of the ResNet where there is another backbone.

    Args:
        config: Dictionary of all flags.
        values: Dictionary of those that are given.

    Raises:
        FlagError: If they do not go together.
    """
    name = config["backbone"]
    _check_beginning(config)
    if name is None:
        return
    if "resnet_size" in values:
        raise FlagError(
            "--resnet_size is the depth of the ResNet without --backbone; leave either "
            f"out. Received: --resnet_size={values['resnet_size']} with --backbone={name}"
        )
    config.pop("resnet_size", None)
    backbone = backbones.find(name)
    if config["resnet_version"] != RESNET_VERSION and not backbone.is_resnet:
        raise FlagError(
            "--resnet_version needs --backbone=resnet50 or another ResNet. Received: "
            f"--resnet_version={config['resnet_version']} with --backbone={name}"
        )
    if config["weights"] == backbones.PRETRAINED and not backbone.has_pretrained:
        raise FlagError(
            "--weights=pretrained needs --backbone=efficientnet_lite0, keras:NAME or "
            f"hub:PRESET; there are none of others. Received: --backbone={name}"
        )


def _check_beginning(config):
    """What the network begins with, and which of it is left as it is."""
    if config["weights"] and config["backbone"] is None:
        raise FlagError(
            "--weights needs --backbone, such as --backbone=efficientnet_lite0. Received: "
            f"--weights={config['weights']} without one"
        )
    init_from = config.get("init_from")
    if config["weights"] and init_from:
        raise FlagError(
            "--weights and --init_from are two beginnings; leave either out. Received: "
            f"--weights={config['weights']} --init_from={init_from}"
        )
    if config["freeze"] and not (config["weights"] or init_from):
        raise FlagError(
            "--freeze needs --weights with --backbone, or --init_from, without which "
            f"features stay random. Received: --freeze with --backbone={config['backbone']}"
        )
    after = config.get("unfreeze_after")
    if after is not None and not (config["freeze"] and after < config["train_epochs"]):
        raise FlagError(
            "--unfreeze_after needs --freeze, and more epochs in --train_epochs="
            f"{config['train_epochs']}. Received: --unfreeze_after={after}"
        )
