# SPDX-License-Identifier: Apache-2.0
"""The flags of a run: their checks, and the run's name and identity.

Nothing here imports Keras or TensorFlow, so that `--help` and bad flags answer at once.
"""

import hashlib
import os
import re

from absl import flags

from deepncm_tf import backbones
from deepncm_tf.data import datasets, known_classes
from deepncm_tf.flags import combinations
from deepncm_tf.flags.flag import FlagError, choice
from deepncm_tf.flags.methods import METHOD_FLAGS
from deepncm_tf.flags.run import RUN_FLAGS
from deepncm_tf.utils.registry import METHODS

ALWAYS_NAMED = ("decay", "condensation_steps", "num_sub_centroids", "learning_rate", "seed")
LONGEST_NAME = 180  # characters; a log's name has some more, and the usual limit is 255
FLAGS = (
    choice("ncm", "decay", tuple(METHODS), "Method of classification."),
    *METHOD_FLAGS,
    *RUN_FLAGS,
)
TABLE = {flag.name: flag for flag in FLAGS}


def define():
    """Defines the flags of the table with absl."""
    for flag in FLAGS:
        if flag.choices:
            # absl's own check of choices would name neither remedy nor type: ours does.
            text = f"<{'|'.join(flag.choices)}>: {flag.help}"
            flags.DEFINE_string(flag.name, flag.default, text, module_name=__name__)
            continue
        define_flag = {
            str: flags.DEFINE_string,
            int: flags.DEFINE_integer,
            float: flags.DEFINE_float,
            bool: flags.DEFINE_bool,
        }[flag.kind]
        define_flag(flag.name, flag.default, flag.help, module_name=__name__)


def given(flag_values):
    """The flags of the table that the command line gives, with their values."""
    return {
        flag.name: flag_values[flag.name].value
        for flag in FLAGS
        if flag_values[flag.name].present
    }


def resolve(values):
    """Checks flags and fills in what is not given.

    Args:
        values: Dictionary of the flags that are given, by name.

    Returns:
        Dictionary of every flag; those of other methods are left out.

    Raises:
        FlagError: If a value is out of its range, or flags do not go together.
    """
    for name, value in values.items():
        if name not in TABLE:
            raise FlagError(f"There is no flag --{name}. Received: --{name}={value}")
        if value is not None and not TABLE[name].accepts(value):
            raise FlagError(
                f"--{name} must be {TABLE[name].wanted}. Received: --{name}={value}"
            )
    values = {name: _canonical(name, value) for name, value in values.items()}
    config = {flag.name: values.get(flag.name, flag.default) for flag in FLAGS}
    for flag in FLAGS:
        if config[flag.name] is None:
            config[flag.name] = _default(flag, config)
        if flag.methods and config["ncm"] not in flag.methods:
            if flag.name in values:
                raise FlagError(
                    f"--{flag.name} belongs to --ncm={' and '.join(flag.methods)}; leave "
                    f"it out, or give --ncm={flag.methods[0]}. Received: "
                    f"--{flag.name}={values[flag.name]} with --ncm={config['ncm']}"
                )
            del config[flag.name]
    config["embedding_dim"] = config["embedding_dim"] or None
    _check_backbone(config, values)
    combinations.check(config)
    if config["model_dir"] is None:
        config["model_dir"] = os.path.join("runs", run_name(config))
    return config


def _canonical(name, value):
    """One form of equal values, so that one value is one run: `4` of `04`, 0 of -0."""
    flag = TABLE[name]
    try:
        return value + 0.0 if flag.kind is float else flag.canonical(value)
    except (TypeError, ValueError):  # None, or a damaged config's
        return value


def _default(flag, config):
    """A flag's default, which may depend on the dataset or the method."""
    if flag.from_dataset:
        return getattr(datasets.recipe(config["dataset"]), flag.name)
    return flag.from_method.get(config["ncm"], flag.default)


def _check_backbone(config, values):
    """Leaves out the flags of the ResNet where there is another backbone."""
    name = config["backbone"]
    if name is None:
        for flag in ("weights", "freeze"):
            if config[flag]:
                raise FlagError(
                    f"--{flag} needs --backbone, such as --backbone=efficientnet_lite0. "
                    f"Received: --{flag}={config[flag]} without one"
                )
        return
    if "resnet_size" in values:
        raise FlagError(
            "--resnet_size is the depth of the ResNet without --backbone; leave either "
            f"out. Received: --resnet_size={values['resnet_size']} with --backbone={name}"
        )
    del config["resnet_size"]
    backbone = backbones.find(name)
    if (
        config["resnet_version"] != TABLE["resnet_version"].default
        and not backbone.is_resnet
    ):
        raise FlagError(
            "--resnet_version needs --backbone=resnet50 or another ResNet. Received: "
            f"--resnet_version={config['resnet_version']} with --backbone={name}"
        )
    if config["weights"] == backbones.PRETRAINED and not backbone.has_pretrained:
        raise FlagError(
            "--weights=pretrained needs --backbone=efficientnet_lite0, keras:NAME or "
            f"hub:PRESET; there are none of others. Received: --backbone={name}"
        )
    if config["freeze"] and config["weights"] is None:
        raise FlagError(
            "--freeze needs --weights, without which features stay random. Received: "
            f"--freeze with --backbone={name}"
        )


def image_size(config):
    """Height and width of the images of a resolved config."""
    if config["image_size"] is not None:
        return config["image_size"]
    name = config["backbone"]
    return datasets.IMAGE_SHAPE[0] if name is None else backbones.find(name).image_size


def scaling(config):
    """What the backbone of a resolved config takes, as in `pipeline.SCALINGS`."""
    name = config["backbone"]
    return backbones.STANDARDIZED if name is None else backbones.find(name).takes


def num_classes(config):
    """Number of classes of a resolved config."""
    known = classes(config)
    if known is not None:
        return len(known)
    return datasets.num_classes(config["dataset"], config["label"])


def classes(config):
    """The classes of --known_classes, a list of ints; None for all of the dataset's."""
    text = config["known_classes"]
    return None if text is None else known_classes.parse(text)


def classifier_arguments(config):
    """What a resolved config says of its classifier, for `Classifier.prepare`."""
    arguments = {"num_classes": num_classes(config)}
    for flag in FLAGS:
        if flag.methods and flag.argument is not None and flag.name in config:
            value = flag.convert(config[flag.name], config)
            arguments[flag.argument or flag.name] = value
    return arguments


def identity(config):
    """The part of a resolved config that determines the result."""
    return {
        name: _canonical(name, value)
        for name, value in config.items()
        if TABLE[name].identity
    }


def run_name(config):
    """Name of a run: dataset, method, and what is not the published recipe.

    Args:
        config: Dictionary of resolved flags.

    Returns:
        String, fit for a file name; equal for equal identities only.
    """
    kept = identity(config)
    parts = [_in_file_name(kept["dataset"]), config["ncm"]]
    for flag in FLAGS:
        name, value = flag.name, kept.get(flag.name)
        if name not in kept or name in ("dataset", "ncm"):
            continue
        if name in ALWAYS_NAMED or value != _default(flag, config):
            parts.append(f"{name}={_in_file_name(value)}")
    whole = "_".join(parts)
    # Seed and learning rate stand at the end: a digest of all of it keeps names apart.
    if len(whole) <= LONGEST_NAME:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:16]
    return f"{whole[: LONGEST_NAME - len(digest) - 1]}_{digest}"


def _in_file_name(value):
    """A flag's value; of a path its end and a digest, and nothing that a shell reads."""
    text = str(value)
    if re.fullmatch(r"[\w.,=+-]*", text, flags=re.ASCII):
        return text
    end = re.sub(r"[^\w.,=+-]", "-", os.path.basename(text), flags=re.ASCII)
    return f"{end}-{hashlib.sha256(os.fsencode(text)).hexdigest()[:16]}"
