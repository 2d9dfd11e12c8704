# SPDX-License-Identifier: Apache-2.0
"""teach in this process, on a network that is built in no time."""

import copy
import json
import types

import keras
import picture_folders

from deepncm_tf import classify, teach
from deepncm_tf.runs import backbone
from deepncm_tf.runs.command_line import CommandLine

COUNTS = {"blue": 24, "green": 21, "red <b>": 30}
PLACES = {"red <b>": 0, "green": 1, "blue": 2}  # of the colour in `picture_folders`


def write_pictures(folder, counts=COUNTS):
    for name, count in counts.items():
        picture_folders.write_class(folder / name, PLACES[name], count)
    return folder


def use_small_backbone(patch):
    """Means of parts of a picture are its features: 8 x 8 pixels, 12 dimensions."""

    def build(config):
        network = keras.Sequential(
            [
                keras.Input((8, 8, 3), name="image"),
                keras.layers.Rescaling(1 / 255),
                keras.layers.AveragePooling2D(4),
                keras.layers.Flatten(),
            ]
        )
        network.trainable = False
        return network

    patch.setattr(backbone, "build", build)


def run(patch, *arguments):
    """Runs teach with the arguments of a command line."""
    flag_values = copy.deepcopy(teach.FLAGS)
    CommandLine("teach", "", flag_values).parse(["teach", "--image_size=8", *arguments])
    patch.setattr(teach, "FLAGS", flag_values)
    teach.main(["teach"])


def classify_pictures(patch, capsys, model, *paths, as_json=True):
    patch.setattr(classify, "FLAGS", types.SimpleNamespace(model=str(model), json=as_json))
    capsys.readouterr()
    classify.main(["classify", *map(str, paths)])
    lines = capsys.readouterr().out.splitlines()
    return list(map(json.loads, lines)) if as_json else lines
