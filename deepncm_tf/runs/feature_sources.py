# SPDX-License-Identifier: Apache-2.0
"""Where a command line has features from: a finished run, bank files, or pixels."""

from typing import Any, NamedTuple

from absl import flags as absl_flags

from deepncm_tf.data import bank_files
from deepncm_tf.flags import FlagError
from deepncm_tf.runs.command_line import define_run_flags
from deepncm_tf.runs.config import read_config

absl_flags.disclaim_key_flags()  # --help lists a flag with the module that asks for it

PIXELS = ("digits",)  # datasets whose pixels are features
NEEDED = "one of --model_dir=RUN, --bank=FILE with --test_bank=FILE, and --dataset=digits"


class Features(NamedTuple):
    """Features of training and of test images.

    Attributes:
        source: Dictionary of the flags that say where they are from.
        train, test: Pairs of features `(n, d)` and labels `(n,)`, integers.
    """

    source: dict
    train: Any
    test: Any


def define_source_flags(flag_values):
    """Defines the flags that say where features are from."""
    define_run_flags(flag_values)
    for name, text in (
        ("bank", "Bank file of training features, in place of --model_dir."),
        ("test_bank", "Bank file of test features."),
        ("dataset", "digits: their 8 x 8 pixels are the features."),
    ):
        absl_flags.DEFINE_string(name, None, text, flag_values=flag_values)


def check_source(flag_values):
    """What the flags say of where features are from, before TensorFlow takes its time.

    Args:
        flag_values: Object with the flags of `define_source_flags`.

    Returns:
        Dictionary of those that are given.

    Raises:
        FlagError: If they are not one source.
        ValueError, RunError: If it is none that can be read.
    """
    names = ("model_dir", "bank", "test_bank", "dataset")
    given = {name: getattr(flag_values, name) for name in names}
    given = {name: value for name, value in given.items() if value}
    if set(given) not in ({"model_dir"}, {"bank", "test_bank"}, {"dataset"}):
        received = " ".join(f"--{name}={value}" for name, value in given.items())
        raise FlagError(f"Features must be of {NEEDED}. Received: {received or 'none'}")
    if "model_dir" in given:
        read_config(given["model_dir"])
    for name in set(given) & {"bank", "test_bank"}:
        bank_files.check_path(given[name])
    if given.get("dataset", PIXELS[0]) not in PIXELS:
        raise FlagError(
            "--dataset must be digits; of others, give a run or bank files. Received: "
            f"--dataset={given['dataset']}"
        )
    return given


def read_features(source, data_dir=None):
    """Reads or computes features.

    Args:
        source: Dictionary, as from `check_source`.
        data_dir: Folder of TFDS datasets, or None.

    Returns:
        `Features`.

    Raises:
        ValueError: If those of two banks do not have the same dimensions.
        RunError, DatasetNotFoundError: What stands in the way.
    """
    if "model_dir" in source:
        from deepncm_tf.runs.finished_run import FinishedRun

        run = FinishedRun(source["model_dir"], data_dir)
        splits = (run.splits[split] for split in ("train", "test"))
        train, test = ((run.embed(images), labels) for images, labels in splits)
    elif "bank" in source:
        banks = (bank_files.read_bank(source[name]) for name in ("bank", "test_bank"))
        train, test = ((features, labels) for features, labels, _ in banks)
    else:
        from deepncm_tf.data import datasets

        splits = datasets.load(source["dataset"])
        pairs = (splits[split] for split in ("train", "test"))
        train, test = ((digits_pixels(images), labels) for images, labels in pairs)
    if train[0].shape[1] != test[0].shape[1]:
        raise ValueError(
            f"--test_bank must have features of {train[0].shape[1]} dimensions, those of "
            f"--bank. Received: {test[0].shape[1]} dimensions in {source['test_bank']}"
        )
    return Features(source, train, test)


def digits_pixels(images):
    """Images of the digits in 8 x 8 again, means of blocks: `(n, 64)` in [0, 1]."""
    blocks = images[..., 0].reshape(len(images), 8, 4, 8, 4)
    pixels = blocks.mean(axis=(2, 4)) / 255
    return pixels.reshape(len(images), 64).astype("float32")


def named(flag, names, known):
    """The values of a flag that is a list of names, each once.

    Raises:
        FlagError: If one is unknown, or there is none.
    """
    if not names or not set(names) <= set(known):
        raise FlagError(
            f"--{flag} must be names in {list(known)}, separated by commas. Received: "
            f"--{flag}={','.join(names)}"
        )
    return list(dict.fromkeys(names))
