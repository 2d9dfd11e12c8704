# SPDX-License-Identifier: Apache-2.0
"""Model files, which are checked before a model is built: of runs, and of `teach`."""

import contextlib
import hashlib
import io
import json
import math
import zipfile

import h5py
import keras

from deepncm_tf import classifiers, flags, runs
from deepncm_tf.data import array_files
from deepncm_tf.models.deep_ncm import DeepNCM
from deepncm_tf.models.segmenter import Segmenter
from deepncm_tf.utils.errors import one_line

WEIGHTS = "model.weights.h5"


def load(folder, config):
    """Loads model.keras; nothing that the file holds is executed.

    Args:
        folder: `pathlib.Path` of the run's folder.
        config: Dictionary of the run's flags.

    Returns:
        The `DeepNCM` or `Segmenter`.

    Raises:
        RunError: If it is damaged, larger than its weights, or of another run.
    """
    path = folder / "model.keras"
    with _one_error(path):
        _check_sum(folder)
        is_segmentation = flags.task_of(config) == flags.SEGMENTATION
        kind = Segmenter if is_segmentation else DeepNCM
        _check_archive(path, kind, config)
        return keras.models.load_model(path, compile=False)


def load_taught(path):
    """Loads what `python -m deepncm_tf.teach` wrote; nothing in it is executed.

    Args:
        path: `pathlib.Path` of the file.

    Returns:
        The `DeepNCM`, with its calibration and its pictures.

    Raises:
        RunError: If it is damaged, larger than its weights, or another model.
    """
    with _one_error(path):
        _check_archive(path, DeepNCM)
        model = keras.models.load_model(path, compile=False)
        if model.calibration is None or model.pictures is None:
            raise ValueError("it must be of python -m deepncm_tf.teach")
        return model


@contextlib.contextmanager
def _one_error(path):
    try:
        yield
    except Exception as error:  # Keras raises what its many layers raise
        reason = one_line(error)
        raise runs.RunError(f"{path} cannot be read: {reason}") from error


def _check_sum(folder):
    """Raises a ValueError where SHA256SUMS has another sum of the model."""
    sums = folder / runs.SUMS
    if not sums.exists():
        return
    lines = [line.split() for line in sums.read_text().splitlines()]
    with (folder / "model.keras").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if [digest, "model.keras"] not in lines:
        raise ValueError(
            f"its checksum is not that of {runs.SUMS}; restore the file, or, if it was "
            f"changed on purpose, delete {sums}"
        )


def _check_archive(path, kind, config=None):
    """Raises an error where a model file is larger than its weights, or of another run."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            array_files.check_size(info, path.stat().st_size)
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} in it is damaged")
        model = json.loads(archive.read("config.json"))
        stored = archive.getinfo(WEIGHTS).file_size
        with h5py.File(io.BytesIO(archive.read(WEIGHTS))) as weights:
            claimed = _bytes_claimed(weights)
    if claimed > stored:
        raise ValueError(f"{WEIGHTS} claims {claimed} bytes, and has {stored}")
    _check_class(model, kind)
    if config is not None:
        _check_run(model["config"], config)
    size = _size(model["config"])
    if size > stored:  # a weight takes a byte or more
        raise ValueError(f"it claims {size} weights in {stored} bytes")


def _check_run(model, config):
    """Raises an error where a model's config is of another run."""
    classifier = model["classifier"]
    _check_class(classifier, classifiers.NAMES[config["ncm"]])
    wanted, received = flags.num_classes(config), classifier["config"]["num_classes"]
    if received != wanted:
        raise ValueError(f"the run has {wanted} classes. Received: num_classes={received}")


def _check_class(serialized, cls):
    wanted, received = keras.saving.get_registered_name(cls), serialized["registered_name"]
    if received != wanted:
        raise ValueError(f"it must have a {wanted}. Received: {str(received)[:100]}")


def _bytes_claimed(weights):
    sizes = []
    weights.visititems(lambda name, item: sizes.append(getattr(item, "nbytes", 0)))
    return sum(sizes)


def _size(config):
    """Number of weights of a serialized model, at least, without making them."""
    with keras.StatelessScope(initialize_variables=False):  # which defers the making
        backbone = keras.saving.deserialize_keras_object(config["backbone"])
    size = sum(math.prod(variable.shape) for variable in backbone.variables)
    dimensions = backbone.output_shape[-1]
    if "decoder" in config:  # which ends with a 3x3 convolution
        dimensions = config["decoder_width"]
        size += 9 * dimensions * dimensions
    elif config["embedding_dim"] is not None:
        size += dimensions * config["embedding_dim"]
        dimensions = config["embedding_dim"]
    classifier = config["classifier"]["config"]
    prototypes = classifier.get("num_sub_centroids", 1)
    most = max(prototypes) if isinstance(prototypes, list) else prototypes
    rows = classifier["num_classes"] * most
    rows += classifier.get("memory_size", 0) + classifier.get("bank_size", 0)
    lifted = classifier.get("num_features", 0)
    return size + dimensions * (rows + lifted) + lifted * lifted
