# SPDX-License-Identifier: Apache-2.0
"""A run that begins with what another has learnt, and goes on with other classes."""

import os
import pathlib

from deepncm_tf import flags, runs
from deepncm_tf.data import pipeline
from deepncm_tf.runs.config import read_config

NETWORK = ("backbone", "resnet_size", "resnet_version", "embedding_dim")


def check(config):
    """Checks, before anything is computed, that `--init_from` is a run that fits.

    Args:
        config: Dictionary of flags as from `flags.resolve`.

    Raises:
        RunError: If it is no finished run, this run itself, or one of another network.
    """
    if config.get("init_from") is None:
        return
    other = read_config(config["init_from"], "init_from")
    if os.path.realpath(config["init_from"]) == os.path.realpath(config["model_dir"]):
        raise runs.RunError(
            "--init_from must be another folder than --model_dir. Received: "
            f"--init_from={config['init_from']} --model_dir={config['model_dir']}"
        )
    differences = [
        f"--{name}: {other.get(name)} there, {config.get(name)} here"
        for name in NETWORK
        if other.get(name) != config.get(name)
    ]
    sizes = flags.image_size(other), flags.image_size(config)
    if sizes[0] != sizes[1]:
        differences.append(f"--image_size: {sizes[0]} there, {sizes[1]} here")
    if differences:
        raise runs.RunError(
            f"--init_from must be a run of the same network ({'; '.join(differences)}). "
            f"Received: --init_from={config['init_from']}"
        )


def begin(config, model, train):
    """Gives a model what the run of `--init_from` has learnt, and its first class state.

    Args:
        config: Dictionary of flags as from `flags.resolve`.
        model: A built `DeepNCM`.
        train: Pair of training images and labels.

    Raises:
        RunError: If the run's model cannot be read, or does not fit.
    """
    from deepncm_tf.runs import model_file

    path = config["init_from"]
    other = model_file.load(pathlib.Path(path), read_config(path, "init_from"))
    is_same_method = type(model.classifier) is type(other.classifier)
    parts = (_learnt(one, is_same_method) for one in (model, other))
    for mine, theirs in zip(*parts, strict=True):
        shapes = [[tuple(v.shape) for v in variables] for variables in (mine, theirs)]
        if shapes[0] != shapes[1]:  # the same flags of another version
            raise runs.RunError(
                "--init_from must be a run of the same network; variables have other "
                f"shapes there. Received: --init_from={path}"
            )
        for variable, value in zip(mine, theirs, strict=True):
            variable.assign(value.numpy())
    if model.classifier.adapts_from is not None:
        batch = 4 * config["batch_size"]
        images = pipeline.evaluation_dataset(
            *train, batch, flags.scaling(config), with_rows=True
        )
        steps = pipeline.steps_per_epoch(len(train[1]), batch)
        model.adapt(images, steps=steps, verbose=0)


def _learnt(model, with_classifier):
    """What a model has learnt of features: the variables of each of its parts."""
    parts = [model.backbone.variables]
    if model.embedding is not None:
        parts.append(model.embedding.variables)
    if with_classifier:
        parts.append(model.classifier.feature_variables)
    return parts
