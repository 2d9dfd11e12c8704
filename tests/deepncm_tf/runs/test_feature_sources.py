# SPDX-License-Identifier: Apache-2.0
"""Where features are from: what flags may say, and the pixels of the digits."""

import types

import numpy as np
import pytest

from deepncm_tf.data import bank_files, datasets
from deepncm_tf.flags import FlagError
from deepncm_tf.runs import feature_sources

NONE = dict.fromkeys(("model_dir", "bank", "test_bank", "dataset"))


def check(**values):
    return feature_sources.check_source(types.SimpleNamespace(**{**NONE, **values}))


def test_pixels_are_means_of_blocks():
    features = feature_sources.read_features(check(dataset="digits"))
    assert features.source == {"dataset": "digits"}
    images, labels = datasets.load("digits")["test"]
    pixels, classes = features.test
    np.testing.assert_array_equal(classes, labels)
    assert (pixels.shape, pixels.dtype) == ((len(images), 64), "float32")
    for row in range(8):
        for column in range(8):
            block = images[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            np.testing.assert_allclose(
                pixels[:, 8 * row + column], block.mean(axis=(1, 2, 3)) / 255, atol=1e-6
            )


def test_bank_files(tmp_path):
    rng = np.random.default_rng(0)
    paths = {"bank": str(tmp_path / "a.npz"), "test_bank": str(tmp_path / "b.npy")}
    for number, path in enumerate(paths.values(), start=5):
        bank_files.write_bank(
            path, rng.random((number, 3)), np.arange(number) // 2, np.arange(number)
        )
    features = feature_sources.read_features(check(**paths))
    assert features.source == paths
    assert [part[0].shape for part in features[1:]] == [(5, 3), (6, 3)]
    assert features.test[1].tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("values", "received"),
    [
        ({}, "none"),
        ({"bank": "a.npz"}, "--bank=a.npz"),
        ({"test_bank": "b.npz"}, "--test_bank=b.npz"),
        ({"dataset": "digits", "model_dir": "run"}, "--model_dir=run --dataset=digits"),
        (dict.fromkeys(NONE, "a.npz"), "--model_dir=a.npz --bank=a.npz"),
        ({"dataset": "cifar10"}, "--dataset=cifar10"),
    ],
)
def test_one_source_alone(values, received):
    with pytest.raises(FlagError, match=f"Received: {received}"):
        check(**values)


@pytest.mark.bad_input
def test_names_of_a_list():
    assert feature_sources.named("heads", ["b", "a", "b"], "abc") == ["b", "a"]
    for names in (["a", "d"], []):
        with pytest.raises(FlagError, match=f"Received: --heads={','.join(names)}$"):
            feature_sources.named("heads", names, "abc")
