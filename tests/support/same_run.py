# SPDX-License-Identifier: Apache-2.0
"""Reads what a run wrote, and compares two runs: the same to the bit, but for times."""

import json

import keras
import numpy as np
import tensorflow as tf

TIMES = {"seconds", "images_per_second"}


def metrics(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def without_times(entries):
    return [{k: v for k, v in entry.items() if k not in TIMES} for entry in entries]


def weights(folder):
    return keras.models.load_model(folder / "model.keras").get_weights()


def summaries(folder):
    """TensorBoard's scalars: `{(split, name, epoch): value}`."""
    return {
        (path.parent.name, value.tag, event.step): float(tf.make_ndarray(value.tensor))
        for path in (folder / "summaries").glob("*/*")
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "scalars"
    }


def assert_same_run(one, other):
    assert without_times(metrics(one)) == without_times(metrics(other))
    assert (one / "result.json").read_bytes() == (other / "result.json").read_bytes()
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(a, b)
    one, other = (
        {key: value for key, value in summaries(folder).items() if key[1] not in TIMES}
        for folder in (one, other)
    )
    assert one == other
