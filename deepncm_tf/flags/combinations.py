# SPDX-License-Identifier: Apache-2.0
"""Which flags go together."""

from deepncm_tf.data import datasets, known_classes
from deepncm_tf.flags.flag import FlagError


def check(config):
    """Raises a `FlagError` where flags of a resolved config do not go together."""
    if "decoder" not in config:
        _check_classification(config)
    one_device = config["distribution_strategy"] == "one_device"
    strategy = f"--distribution_strategy={config['distribution_strategy']}"
    if not strategy.endswith("=mirrored") and (config["num_devices"] or 1) > 1:
        raise FlagError(
            "--num_devices needs --distribution_strategy=mirrored. Received: "
            f"--num_devices={config['num_devices']} with {strategy}"
        )
    if config["accumulate_steps"] > config["batch_size"]:
        raise FlagError(
            f"--accumulate_steps must be at most --batch_size={config['batch_size']}. "
            f"Received: --accumulate_steps={config['accumulate_steps']}"
        )
    if config.get("bank_sharding") and not strategy.endswith("=mirrored"):
        raise FlagError(
            "--bank_sharding needs --distribution_strategy=mirrored. Received: "
            f"--bank_sharding with {strategy}"
        )
    if not one_device and config["jit_compile"] == "on":
        raise FlagError(
            f"--jit_compile must be auto or off with {strategy}, under which TensorFlow "
            "cannot compile a step. Received: --jit_compile=on"
        )


def _check_classification(config):
    if config["label"] not in datasets.recipe(config["dataset"]).num_classes:
        raise FlagError(
            "--label=coarse needs a dataset with superclasses: --dataset=cifar100 or "
            f"--dataset=digits. Received: --dataset={config['dataset']}"
        )
    _check_known_classes(config)
    _check_means(config)
    _check_anchoring(config)
    _check_bad_images(config)
    if config["device_dataset"] and config["augmentation"] == "imagenet":
        raise FlagError(
            "--device_dataset must be off with --augmentation=imagenet, which takes crops "
            "of pictures before they get their size. Received: --device_dataset"
        )
    if config["device_dataset"] and config["dataset"] not in datasets.DATASETS:
        raise FlagError(
            "--device_dataset must be off where pictures are read from files. Received: "
            f"--device_dataset with --dataset={config['dataset']}"
        )


def _check_bad_images(config):
    names = [config["dataset"], config["test_dataset"] or ""]
    has_folder = any(name.startswith(datasets.FOLDER) for name in names)
    if config["on_bad_image"] == "skip" and not has_folder:
        raise FlagError(
            "--on_bad_image=skip needs --dataset=folder:PATH or --test_dataset=folder:"
            f"PATH. Received: --dataset={config['dataset']} and "
            f"--test_dataset={config['test_dataset']}"
        )


def _check_known_classes(config):
    if config["known_classes"] is None:
        return
    known = known_classes.parse(config["known_classes"])
    received = f"Received: --known_classes={config['known_classes']}"
    if config["label"] != "fine":
        raise FlagError(f"--known_classes needs --label=fine. {received}")
    number = datasets.recipe(config["dataset"]).num_classes["fine"]
    if len(known) < 2 or (number is not None and known[-1] >= number):
        range_of = "" if number is None else f" 0-{number - 1}"
        raise FlagError(
            f"--known_classes must be two or more of the classes{range_of} of "
            f"--dataset={config['dataset']}. {received}"
        )


def _check_means(config):
    metric, unit_length = config.get("metric"), config.get("unit_length")
    if config.get("center") == "mean" and (metric != "cosine" or unit_length):
        raise FlagError(
            "--center=mean needs --metric=cosine, without --unit_length. Received: "
            f"--metric={metric} and --unit_length={unit_length}"
        )


def _check_anchoring(config):
    epochs = config.get("anchor_epochs", 0)
    if epochs > config["train_epochs"]:
        raise FlagError(
            f"--anchor_epochs must be at most --train_epochs={config['train_epochs']}. "
            f"Received: --anchor_epochs={epochs}"
        )
    if epochs and config["distribution_strategy"] == "multi_worker_mirrored":
        raise FlagError(
            "--anchor_epochs needs one machine. Received: "
            f"--anchor_epochs={epochs} with --distribution_strategy=multi_worker_mirrored"
        )
