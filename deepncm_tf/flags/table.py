# SPDX-License-Identifier: Apache-2.0
"""All flags, and the tasks that they belong to."""

from deepncm_tf.data import datasets, segmentation_sets
from deepncm_tf.flags import segmentation
from deepncm_tf.flags.flag import FlagError, choice
from deepncm_tf.flags.methods import METHOD_FLAGS
from deepncm_tf.flags.run import RUN_FLAGS
from deepncm_tf.utils.registry import METHODS

SET_DEFAULTS = (  # of segmentation, which a `SegmentationSet` has
    "image_shape",
    "backbone",
    "batch_size",
    "train_epochs",
    "decoder_width",
    "learning_rate",
    "max_scale",
)
CLASSIFICATION, SEGMENTATION = "classification", segmentation.TASK
PROGRAMS = {CLASSIFICATION: "cifar_main", SEGMENTATION: "segmentation_main"}
ALL_FLAGS = (
    choice(
        "ncm",
        "decay",
        tuple(METHODS),
        "Method of classification.",
        from_task={SEGMENTATION: "dnc"},
    ),
    *METHOD_FLAGS,
    *RUN_FLAGS,
    *segmentation.SEGMENTATION_FLAGS,
)
TABLE = {flag.name: flag for flag in ALL_FLAGS}


def of_task(task):
    """The flags that apply to a task, a tuple."""
    return tuple(flag for flag in ALL_FLAGS if flag.task in ("", task))


FLAGS = of_task(CLASSIFICATION)


def task_of(values):
    """The task of given or resolved flags: those of segmentation have a decoder."""
    is_segmentation = values.get("decoder") is not None
    return SEGMENTATION if is_segmentation else CLASSIFICATION


def canonical_value(name, value):
    """One form of equal values, so that one value is one run: `4` of `04`, 0 of -0."""
    flag = TABLE[name]
    try:
        return value + 0.0 if flag.kind is float else flag.canonical(value)
    except (TypeError, ValueError):  # None, or a damaged config's
        return value


def default_of(flag, config):
    """A flag's default, which may depend on the task, the dataset or the method."""
    task = task_of(config)
    if task == SEGMENTATION and flag.name in SET_DEFAULTS:
        return getattr(segmentation_sets.find(config["dataset"]), flag.name)
    if task in flag.from_task:
        return flag.from_task[task]
    if flag.from_dataset:
        return getattr(datasets.recipe(config["dataset"]), flag.name)
    return flag.from_method.get(config["ncm"], flag.default)


def check_task(values, task):
    """Raises a `FlagError` where flags or a dataset belong to another task."""
    for name, value in values.items():
        if TABLE[name].task not in ("", task):
            raise FlagError(
                f"--{name} belongs to {PROGRAMS[TABLE[name].task]}. Received: "
                f"--{name}={value} for {PROGRAMS[task]}"
            )
    dataset = values.get("dataset")
    known, wanted = datasets.is_known, TABLE["dataset"].wanted
    if task == SEGMENTATION:
        known = segmentation_sets.is_known
        wanted = f"one of {', '.join(segmentation_sets.SETS)}, folder:PATH or tfds:NAME"
    if dataset is not None and not known(dataset):
        raise FlagError(f"--dataset must be {wanted}. Received: --dataset={dataset}")
