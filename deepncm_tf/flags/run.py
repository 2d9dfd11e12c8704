# SPDX-License-Identifier: Apache-2.0
"""The flags of every run: its data, network, recipe and machine."""

import math

from deepncm_tf.data import known_classes
from deepncm_tf.flags.flag import Flag, choice, integer, positive
from deepncm_tf.flags.network import NETWORK_FLAGS, RESNET_VERSION

DTYPES = {"fp32": "float32", "bf16": "mixed_bfloat16", "fp16": "mixed_float16"}

RUN_FLAGS = (
    *NETWORK_FLAGS,
    choice(
        "label",
        "fine",
        ("fine", "coarse"),
        "Classes, or superclasses: the 20 of CIFAR-100, pairs of digits.",
        task="classification",
    ),
    Flag(
        "known_classes",
        str,
        None,
        "Classes that the model learns, such as 0-6 or 0,2,5-7, in place of all; for "
        "evaluate --unknown with the same dataset the others are unknown.",
        known_classes.WANTED,
        known_classes.is_text,
        canonical=known_classes.canonical,
        task="classification",
    ),
    Flag(
        "validation_fraction",
        float,
        0.0,
        "Share of the training images held out for tuning.",
        "a number in [0, 1)",
        lambda value: 0 <= value < 1,
        task="classification",
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
    choice(
        "augmentation",
        "standard",
        ("standard", "reflect", "snca", "imagenet"),
        "Crops of images padded with black, mirrored; or padded with their own mirror "
        "image, so that their mean and variance stay near those of a test image; crops of "
        "any size, colours and gray; or crops of any size and proportions, of pictures as "
        "they are in their files, mirrored.",
        task="classification",
    ),
    Flag(
        "middle",
        float,
        1.0,
        "Share of the side of the middle square that is taken of an image, except of "
        "training images with --augmentation=imagenet; 0.875 for 224 of 256 pixels.",
        "a number in (0, 1]",
        lambda value: 0 < value <= 1,
        task="classification",
    ),
    Flag(
        "resnet_size",
        int,
        None,
        "Depth of the ResNet, 6n + 2, or 18 or 34 for the wide ones; by default 32, for "
        "digits 8.",
        "6n + 2 with n >= 1, for example 8, 20, 32 or 56, or 18 or 34",
        lambda n: (n >= 8 and n % 6 == 2) or n in (18, 34),
        task="classification",
        from_dataset=True,
    ),
    Flag(
        "resnet_version",
        int,
        RESNET_VERSION,
        "1, or 2 for pre-activation.",
        "1 or 2",
        (1, 2).__contains__,
    ),
    integer(
        "batch_size",
        None,
        "Samples in a step, over all devices; by default 128, for digits 32.",
        from_dataset=True,
    ),
    integer(
        "accumulate_steps",
        1,
        "Parts of a batch that are computed one after the other, where memory does not "
        "hold it at once.",
    ),
    integer(
        "train_epochs",
        None,
        "Length of the run, of which the learning rate's drops are fractions; by default "
        "250, for digits 20.",
        from_dataset=True,
    ),
    integer(
        "max_train_steps",
        None,
        "Stops the run early, on the schedule of --train_epochs.",
    ),
    integer("epochs_between_evals", 1, "Epochs from one evaluation to the next."),
    choice(
        "recipe",
        "official",
        ("official", "snca", "fast", "imagenet", "snca_imagenet"),
        "Optimizer and schedule: of the official ResNet; of SNCA on CIFAR (Nesterov; "
        "drops at 1/4, 1/2 and 3/4); for short runs (Nesterov; the rate rises for a "
        "fifth of the run and then falls to 0; label smoothing of 0.1 but for --ncm=nca); "
        "of the official ResNet on ImageNet (drops at 0.3, 0.6, 0.8 and 0.9; "
        "--learning_rate is that of 256 images); or of SNCA on it (drops every 40 of 130 "
        "epochs).",
        task="classification",
    ),
    Flag(
        "learning_rate",
        float,
        0.1,
        "Initial learning rate; of segmentation by default 0.01, for shapes 0.1.",
        "a positive number",
        positive,
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
        "decay_batch_norm",
        bool,
        True,
        "Whether --weight_decay holds for batch normalization, too.",
        task="classification",
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
    choice("dtype", "fp32", tuple(DTYPES), "Precision of the backbone's computation."),
    choice(
        "distribution_strategy",
        "one_device",
        ("one_device", "mirrored", "multi_worker_mirrored"),
        "Whether to train on one device, on several of this machine, or on several "
        "machines, which TF_CONFIG or Slurm's variables describe.",
        identity=False,
    ),
    integer(
        "num_devices",
        None,
        "Devices of --distribution_strategy=mirrored: GPUs (by default all), or logical "
        "CPUs (by default 2) on a machine without a GPU.",
        identity=False,
    ),
    Flag(
        "device_dataset",
        bool,
        False,
        "Keeps all training images on the device, which then augments them, too.",
        identity=False,
        task="classification",
    ),
    choice("jit_compile", "auto", ("auto", "on", "off"), "XLA compilation."),
    integer(
        "checkpoint_every_steps",
        None,
        "Steps from one checkpoint to the next inside an epoch; by default only its end "
        "is one.",
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
