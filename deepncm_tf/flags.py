# SPDX-License-Identifier: Apache-2.0
"""The flags of a run: one table, their checks, and the run's name and identity.

Nothing here imports Keras or TensorFlow, so that `--help` and bad flags answer at once.
"""

import dataclasses
import hashlib
import math
import os
from collections.abc import Callable
from typing import Any

from absl import flags

from deepncm_tf.datasets import DATASETS

METHODS = ("softmax", "online", "condensation", "decay", "dnc", "nca")
ALWAYS_NAMED = ("decay", "condensation_steps", "num_sub_centroids", "learning_rate", "seed")
SCHEDULE = "schedule"  # of an argument over the run, which needs the number of steps
LONGEST_NAME = 180  # characters; a log's name has some more, and the usual limit is 255
DTYPES = {"fp32": "float32", "bf16": "mixed_bfloat16", "fp16": "mixed_float16"}


class FlagError(ValueError):
    """A flag has a value, or there is a combination of flags, that cannot be run."""


@dataclasses.dataclass(frozen=True)
class Flag:
    """One flag: its type, default, range, and what it belongs to."""

    name: str
    kind: type  # str, int, float or bool
    default: Any  # None where it depends on the dataset, or where unset has a meaning
    help: str
    wanted: str = ""  # what a right value is, for the error message
    accepts: Callable = lambda value: True
    choices: tuple = ()
    method: str = ""  # the only --ncm that it applies to
    argument: str = ""  # of the method's classifier, where it has another name
    convert: Callable = lambda value, config: value  # to the classifier's argument
    from_dataset: bool = False  # default is the dataset's own
    from_method: dict = dataclasses.field(default_factory=dict)  # methods' own defaults
    identity: bool = True  # whether another value gives another result
    before: Any = None  # what runs did before there was the flag, if not its default


def _positive(value):
    return 0 < value < math.inf


def _is_positive_number(text):
    try:
        return _positive(float(text))
    except ValueError:
        return False


def _choice(name, default, choices, help, **kwargs):
    wanted = "one of " + ", ".join(choices)
    return Flag(name, str, default, help, wanted, choices.__contains__, choices, **kwargs)


def _integer(name, default, help, minimum=1, **kwargs):
    wanted = f"an integer >= {minimum}"
    return Flag(name, int, default, help, wanted, lambda n: minimum <= n < 2**31, **kwargs)


FLAGS = (
    _choice("ncm", "decay", METHODS, "Method of classification."),
    Flag(
        "decay",
        float,
        0.9,
        "Weight of the past in the class means of --ncm=decay.",
        "a number in [0, 1)",
        lambda value: 0 <= value < 1,
        method="decay",
    ),
    _integer(
        "condensation_steps",
        100,
        "Steps from one condensation to the next of --ncm=condensation.",
        method="condensation",
    ),
    Flag(
        "num_sub_centroids",
        str,
        "4",
        "Sub-centroids of a class of --ncm=dnc; auto for 1 to 4, by its number of images.",
        "an integer >= 1, or auto",
        lambda text: text == "auto" or (text.isdigit() and int(text) >= 1),
        method="dnc",
        convert=lambda text, config: text if text == "auto" else int(text),
    ),
    Flag(
        "centroid_momentum",
        float,
        0.9999,
        "Weight of the past in the sub-centroids of --ncm=dnc.",
        "a number in [0, 1)",
        lambda value: 0 <= value < 1,
        method="dnc",
        argument="momentum",
    ),
    _choice(
        "centroid_momentum_schedule",
        "learning_rate",
        ("constant", "learning_rate"),
        "Whether 1 - --centroid_momentum falls with the learning rate.",
        before="constant",
        method="dnc",
        argument=SCHEDULE,
    ),
    _integer(
        "memory_batches",
        100,
        "Batches of past features that --ncm=dnc clusters with each batch; 0 for none.",
        minimum=0,
        method="dnc",
        argument="memory_size",
        convert=lambda value, config: value * config["batch_size"],
    ),
    _choice(
        "clustering",
        "sinkhorn",
        ("sinkhorn", "kmeans"),
        "Clustering of --ncm=dnc within classes.",
        method="dnc",
    ),
    Flag(
        "sinkhorn_epsilon",
        float,
        0.05,
        "Weight of the entropy in --clustering=sinkhorn.",
        "a positive number",
        _positive,
        method="dnc",
    ),
    _integer(
        "sinkhorn_iterations",
        3,
        "Iterations of either --clustering.",
        method="dnc",
    ),
    _choice(
        "sub_centroid_initializer",
        "orthogonal",
        ("random", "class", "orthogonal", "samples"),
        "Where the sub-centroids of --ncm=dnc start.",
        method="dnc",
        argument="initializer",
    ),
    _choice(
        "feature_norm",
        "layer",
        ("layer", "none"),
        "Normalization of the features of --ncm=dnc before their length is made 1.",
        method="dnc",
        convert=lambda text, config: None if text == "none" else text,
    ),
    Flag(
        "logit_norm",
        str,
        "0.0625",
        "layer for a layer normalization of the class scores of --ncm=dnc, or their "
        "temperature.",
        "layer, or a positive number",
        lambda text: text == "layer" or _is_positive_number(text),
        method="dnc",
        convert=lambda text, config: text if text == "layer" else float(text),
    ),
    Flag(
        "temperature",
        float,
        0.05,
        "Of the neighbours' votes in --ncm=nca.",
        "a positive number",
        _positive,
        method="nca",
    ),
    Flag(
        "bank_momentum",
        float,
        0.5,
        "Weight of the past in the bank of --ncm=nca.",
        "a number in [0, 1)",
        lambda value: 0 <= value < 1,
        method="nca",
        argument="momentum",
    ),
    _choice(
        "bank_momentum_schedule",
        "constant",
        ("constant", "steps"),
        "Whether --bank_momentum rises to 0.8 and 0.9 after 80 and 120 of 130 parts of "
        "the run.",
        method="nca",
        argument=SCHEDULE,
    ),
    Flag(
        "bank_sharding",
        bool,
        False,
        "Spreads the bank of --ncm=nca over the devices of "
        "--distribution_strategy=mirrored.",
        method="nca",
        identity=False,
    ),
    Flag(
        "embedding_dim",
        int,
        None,
        "Dimensions of a linear map between backbone and classifier, 0 for none; by "
        "default 128 for --ncm=dnc and --ncm=nca, else none. The number of classes gives "
        "DeepNCM's variant with equal parameters.",
        "an integer >= 0",
        lambda n: n >= 0,
        from_method={"dnc": 128, "nca": 128},
    ),
    _choice("dataset", "cifar10", tuple(DATASETS), "Images to train on."),
    _choice(
        "label",
        "fine",
        ("fine", "coarse"),
        "Classes, or superclasses: the 20 of CIFAR-100, pairs of digits.",
    ),
    Flag(
        "validation_fraction",
        float,
        0.0,
        "Share of the training images held out for tuning.",
        "a number in [0, 1)",
        lambda value: 0 <= value < 1,
    ),
    Flag(
        "data_dir",
        str,
        None,
        "Folder of TFDS datasets; by default TFDS's own choice.",
        identity=False,
    ),
    Flag(
        "model_dir",
        str,
        None,
        "Folder of the run; by default runs/ and a name made of the flags.",
        "the name of a folder",
        bool,
        identity=False,
    ),
    _choice(
        "augmentation",
        "standard",
        ("standard", "snca"),
        "Crops of padded images, mirrored; or crops of any size, colours and gray.",
    ),
    Flag(
        "resnet_size",
        int,
        None,
        "Depth of the ResNet, 6n + 2, or 18 or 34 for the wide ones; by default 32, for "
        "digits 8.",
        "6n + 2 with n >= 1, for example 8, 20, 32 or 56, or 18 or 34",
        lambda n: (n >= 8 and n % 6 == 2) or n in (18, 34),
        from_dataset=True,
    ),
    Flag(
        "resnet_version",
        int,
        2,
        "1, or 2 for pre-activation.",
        "1 or 2",
        (1, 2).__contains__,
    ),
    _integer(
        "batch_size",
        None,
        "Samples in a step, over all devices; by default 128, for digits 32.",
        from_dataset=True,
    ),
    _integer(
        "accumulate_steps",
        1,
        "Parts of a batch that are computed one after the other, where memory does not "
        "hold it at once.",
    ),
    _integer(
        "train_epochs",
        None,
        "Length of the run, of which the learning rate's drops are fractions; by default "
        "250, for digits 20.",
        from_dataset=True,
    ),
    Flag(
        "max_train_steps",
        int,
        None,
        "Stops the run early, on the schedule of --train_epochs.",
        "an integer >= 1",
        lambda n: n >= 1,
    ),
    _integer("epochs_between_evals", 1, "Epochs from one evaluation to the next."),
    _choice(
        "recipe",
        "official",
        ("official", "snca"),
        "Optimizer and schedule: of the official ResNet, or of SNCA on CIFAR (Nesterov; "
        "drops at 1/4, 1/2 and 3/4).",
    ),
    Flag(
        "learning_rate",
        float,
        0.1,
        "Initial learning rate.",
        "a positive number",
        _positive,
    ),
    Flag(
        "weight_decay",
        float,
        2e-4,
        "c in the loss's c/2 * (sum of squares of all trainable variables).",
        "a number >= 0",
        lambda value: 0 <= value < math.inf,
    ),
    Flag(
        "gradient_clip",
        float,
        1.0,
        "Limit of each component of the gradient; 0 for none.",
        "a number >= 0",
        lambda value: 0 <= value < math.inf,
    ),
    Flag(
        "seed",
        int,
        0,
        "Of initial weights, order and augmentation.",
        "an integer in [0, 2**31)",
        lambda n: 0 <= n < 2**31,
    ),
    _choice("dtype", "fp32", tuple(DTYPES), "Precision of the backbone's computation."),
    _choice(
        "distribution_strategy",
        "one_device",
        ("one_device", "mirrored", "multi_worker_mirrored"),
        "Whether to train on one device, on several of this machine, or on several "
        "machines, which TF_CONFIG or Slurm's variables describe.",
        identity=False,
    ),
    Flag(
        "num_devices",
        int,
        None,
        "Devices of --distribution_strategy=mirrored: GPUs (by default all), or logical "
        "CPUs (by default 2) on a machine without a GPU.",
        "an integer >= 1",
        lambda n: n >= 1,
        identity=False,
    ),
    _choice("jit_compile", "auto", ("auto", "on", "off"), "XLA compilation."),
    Flag(
        "checkpoint_every_steps",
        int,
        None,
        "Steps from one checkpoint to the next inside an epoch; by default only its end "
        "is one.",
        "an integer >= 1",
        lambda n: n >= 1,
        identity=False,
    ),
    Flag(
        "overwrite",
        bool,
        False,
        "Starts anew in a --model_dir that holds a run; the old run is moved aside and "
        "deleted once the new one has a checkpoint.",
        identity=False,
    ),
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
    config = {flag.name: values.get(flag.name, flag.default) for flag in FLAGS}
    for flag in FLAGS:
        if config[flag.name] is None:
            config[flag.name] = _default(flag, config)
        if flag.method and flag.method != config["ncm"]:
            if flag.name in values:
                raise FlagError(
                    f"--{flag.name} belongs to --ncm={flag.method}; leave it out, or give "
                    f"--ncm={flag.method}. Received: --{flag.name}={values[flag.name]} "
                    f"with --ncm={config['ncm']}"
                )
            del config[flag.name]
    config["embedding_dim"] = config["embedding_dim"] or None
    _check_combinations(config)
    if config["model_dir"] is None:
        config["model_dir"] = os.path.join("runs", run_name(config))
    return config


def _default(flag, config):
    """A flag's default, which may depend on the dataset or the method."""
    if flag.from_dataset:
        return getattr(DATASETS[config["dataset"]], flag.name)
    return flag.from_method.get(config["ncm"], flag.default)


def _check_combinations(config):
    recipe = DATASETS[config["dataset"]]
    if config["label"] not in recipe.num_classes:
        raise FlagError(
            "--label=coarse needs a dataset with superclasses: --dataset=cifar100 or "
            f"--dataset=digits. Received: --dataset={config['dataset']}"
        )
    one_device = config["distribution_strategy"] == "one_device"
    strategy = f"--distribution_strategy={config['distribution_strategy']}"
    if not strategy.endswith("=mirrored") and (config["num_devices"] or 1) > 1:
        raise FlagError(
            "--num_devices needs --distribution_strategy=mirrored. Received: "
            f"--num_devices={config['num_devices']} with {strategy}"
        )
    if not one_device and config["jit_compile"] == "on":
        raise FlagError(
            f"--jit_compile must be auto or off with {strategy}, under which TensorFlow "
            "cannot compile a step. Received: --jit_compile=on"
        )


def num_classes(config):
    """Number of classes of a resolved config."""
    return DATASETS[config["dataset"]].num_classes[config["label"]]


def classifier_arguments(config):
    """Arguments of the classifier that a resolved config describes."""
    arguments = {"num_classes": num_classes(config)}
    for flag in FLAGS:
        if flag.method and flag.name in config and flag.argument is not SCHEDULE:
            value = flag.convert(config[flag.name], config)
            arguments[flag.argument or flag.name] = value
    return arguments


def identity(config):
    """The part of a resolved config that determines the result."""
    return {name: value for name, value in config.items() if TABLE[name].identity}


def run_name(config):
    """Name of a run: dataset, method, and what is not the published recipe.

    Args:
        config: Dictionary of resolved flags.

    Returns:
        String, fit for a file name; equal for equal identities only.
    """
    parts = [config["dataset"], config["ncm"]]
    for name, value in identity(config).items():
        flag = TABLE[name]
        if name in ("dataset", "ncm"):
            continue
        if name in ALWAYS_NAMED or value != _default(flag, config):
            parts.append(f"{name}={value}")
    whole = "_".join(parts)
    # Seed and learning rate stand at the end: a digest of all of it keeps names apart.
    if len(whole) <= LONGEST_NAME:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:16]
    return f"{whole[: LONGEST_NAME - len(digest) - 1]}_{digest}"
