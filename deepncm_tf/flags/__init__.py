# SPDX-License-Identifier: Apache-2.0
"""The flags of a run: their checks, and the run's name and identity.

Nothing here imports Keras or TensorFlow, so that `--help` and bad flags answer at once.
"""

import os

from absl import flags

from deepncm_tf import backbones
from deepncm_tf.data import datasets, known_classes
from deepncm_tf.flags import combinations, network, segmentation
from deepncm_tf.flags.flag import FlagError
from deepncm_tf.flags.identity import ALWAYS_NAMED, identity, run_name
from deepncm_tf.flags.table import (
    ALL_FLAGS,
    CLASSIFICATION,
    FLAGS,
    PROGRAMS,
    SEGMENTATION,
    SET_DEFAULTS,
    TABLE,
    canonical_value,
    check_task,
    default_of,
    of_task,
    task_of,
)
from deepncm_tf.utils.registry import METHODS

__all__ = [
    "ALL_FLAGS",
    "ALWAYS_NAMED",
    "CLASSIFICATION",
    "FLAGS",
    "METHODS",
    "PROGRAMS",
    "SEGMENTATION",
    "TABLE",
    "FlagError",
    "classes",
    "classifier_arguments",
    "define",
    "given",
    "identity",
    "image_size",
    "num_classes",
    "of_task",
    "resolve",
    "run_name",
    "scaling",
    "task_of",
]


def define(task=CLASSIFICATION, flag_values=flags.FLAGS, only=None, defaults=None):
    """Defines the flags of a task with absl.

    Args:
        task: String.
        flag_values: `absl.flags.FlagValues` to define them in.
        only: Names of the flags to define; None for all.
        defaults: Dictionary of defaults, by name, in place of those of the table.
    """
    options = {"flag_values": flag_values, "module_name": __name__}
    for flag in of_task(task):
        if only is not None and flag.name not in only:
            continue
        default = flag.from_task.get(task, flag.default)
        default = (defaults or {}).get(flag.name, default)
        if task == SEGMENTATION and flag.name in SET_DEFAULTS:
            default = None
        if flag.choices:
            # absl's own check of choices would name neither remedy nor type: ours does.
            text = f"<{'|'.join(flag.choices)}>: {flag.help}"
            flags.DEFINE_string(flag.name, default, text, **options)
            continue
        define_flag = {
            str: flags.DEFINE_string,
            int: flags.DEFINE_integer,
            float: flags.DEFINE_float,
            bool: flags.DEFINE_bool,
        }[flag.kind]
        define_flag(flag.name, default, flag.help, **options)


def given(flag_values, task=CLASSIFICATION):
    """The flags of a task that the command line gives, with their values."""
    return {
        flag.name: flag_values[flag.name].value
        for flag in of_task(task)
        if flag.name in flag_values and flag_values[flag.name].present
    }


def resolve(values):
    """Checks flags and fills in what is not given.

    Args:
        values: Dictionary of the flags that are given, by name; `decoder` among them makes
            it a run of segmentation. None is as good as not given; numbers of NumPy and
            paths are made those of Python and strings.

    Returns:
        Dictionary of every flag of the task; those of other methods are left out.

    Raises:
        FlagError: If a value is of another type or out of its range, or flags do not go
            together.
    """
    for name, value in values.items():
        if name not in TABLE:
            raise FlagError(f"There is no flag --{name}. Received: --{name}={value}")
    values = {
        name: None if value is None else canonical_value(name, TABLE[name].checked(value))
        for name, value in values.items()
    }
    task = task_of(values)
    check_task(values, task)
    config = {flag.name: values.get(flag.name) for flag in of_task(task)}
    for name in ("ncm", "dataset", "decoder"):  # on which defaults depend
        if name in config and config[name] is None:
            config[name] = TABLE[name].from_task.get(task, TABLE[name].default)
    for flag in of_task(task):
        if config[flag.name] is None:
            config[flag.name] = default_of(flag, config)
        if flag.methods and config["ncm"] not in flag.methods:
            if flag.name in values:
                raise FlagError(
                    f"--{flag.name} belongs to --ncm={' and '.join(flag.methods)}; leave "
                    f"it out, or give --ncm={flag.methods[0]}. Received: "
                    f"--{flag.name}={values[flag.name]} with --ncm={config['ncm']}"
                )
            del config[flag.name]
    if task == SEGMENTATION:
        segmentation.check(config)
    else:
        config["embedding_dim"] = config["embedding_dim"] or None
    network.check(config, values)
    combinations.check(config)
    if config["model_dir"] is None:
        config["model_dir"] = os.path.join("runs", run_name(config))
    return config


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
    data_dir = config["data_dir"]
    if task_of(config) == SEGMENTATION:
        from deepncm_tf.data import segmentation as segmentation_data

        return len(segmentation_data.class_names(config["dataset"], data_dir))
    known = classes(config)
    if known is not None:
        return len(known)
    return datasets.num_classes(config["dataset"], config["label"], data_dir)


def classes(config):
    """The classes of --known_classes, a list of ints; None for all of the dataset's."""
    text = config.get("known_classes")
    return None if text is None else known_classes.parse(text)


def classifier_arguments(config):
    """What a resolved config says of its classifier, for `Classifier.prepare`."""
    arguments = {"num_classes": num_classes(config)}
    for flag in ALL_FLAGS:
        if flag.methods and flag.argument is not None and flag.name in config:
            value = flag.convert(config[flag.name], config)
            arguments[flag.argument or flag.name] = value
    return arguments
