# SPDX-License-Identifier: Apache-2.0
"""Banks written and read, and the projector's files."""

import numpy as np
import pytest
import read_png

from deepncm_tf import bank_files


@pytest.fixture
def bank():
    rng = np.random.default_rng(0)
    return rng.normal(size=(7, 3)).astype("float32"), rng.integers(4, size=7), np.arange(7)


@pytest.mark.parametrize("name", ["bank.npz", "bank.npy"])
def test_what_is_written_is_read(bank, tmp_path, name):
    paths = bank_files.write_bank(tmp_path / name, *bank)
    assert sorted(paths) == sorted(tmp_path.iterdir())
    found = bank_files.read_bank(tmp_path / name)
    for array, expected in zip(found, bank, strict=True):
        np.testing.assert_array_equal(array, expected)
    assert isinstance(found[0], np.memmap) == (name == "bank.npy")


@pytest.mark.bad_input
def test_other_files_are_refused(bank, tmp_path):
    with pytest.raises(
        ValueError, match=r"must end in \.npz or \.npy\. Received: .*bank\.h5"
    ):
        bank_files.write_bank(tmp_path / "bank.h5", *bank)
    with pytest.raises(ValueError, match="is no bank that can be read"):
        bank_files.read_bank(tmp_path / "nowhere.npz")
    (tmp_path / "damaged.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="is no bank that can be read"):
        bank_files.read_bank(tmp_path / "damaged.npz")
    np.savez(tmp_path / "other.npz", x=1)
    with pytest.raises(ValueError, match="is no bank that can be read"):
        bank_files.read_bank(tmp_path / "other.npz")
    bank_files.write_bank(tmp_path / "short.npz", bank[0], bank[1][:3], bank[2])
    with pytest.raises(ValueError, match=r"labels \(n,\) and ids \(n,\)\. Received: "):
        bank_files.read_bank(tmp_path / "short.npz")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full(7, 0.5), "labels that are integers >= 0. Received: labels of float64"),
        (np.full(7, -1), "Received: labels of int64, such as -1"),
    ],
)
def test_labels_that_are_none(bank, tmp_path, labels, message):
    features, truth, _ = bank
    assert len(truth) == len(labels)
    bank_files.write_bank(tmp_path / "bank.npz", features, labels, np.arange(7))
    with pytest.raises(ValueError, match=message):
        bank_files.read_bank(tmp_path / "bank.npz")


def test_projector(bank, tmp_path):
    features, labels, _ = bank
    images = np.random.default_rng(1).integers(256, size=(7, 4, 5, 3)).astype("uint8")
    names = ["a", "b\tc", "d\ne", "f"]
    assert bank_files.write_projector(tmp_path, features, labels, images, names) == 7
    tensors = np.loadtxt(tmp_path / "tensors.tsv", delimiter="\t")
    np.testing.assert_allclose(tensors, features, rtol=1e-5)
    lines = (tmp_path / "metadata.tsv").read_text().splitlines()
    assert lines[0] == "index\tclass"
    clean = ["a", "b c", "d e", "f"]
    assert lines[1:] == [f"{i}\t{clean[label]}" for i, label in enumerate(labels)]
    sprite = read_png.pixels((tmp_path / "sprite.png").read_bytes())
    assert sprite.shape == (12, 15, 3)  # three by three
    np.testing.assert_array_equal(sprite[4:8, 5:10], images[4])
    config = (tmp_path / "projector_config.pbtxt").read_text()
    assert "single_image_dim: 5\n    single_image_dim: 4" in config
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    parsed = text_format.Parse(config, ProjectorConfig())
    assert parsed.embeddings[0].tensor_path == "tensors.tsv"


def test_a_sprite_has_a_largest_size(bank, tmp_path, monkeypatch):
    monkeypatch.setattr(bank_files, "SPRITE_WIDTH", 10)
    features, labels, _ = bank
    images = np.zeros((7, 5, 5, 3), "uint8")
    assert bank_files.write_projector(tmp_path, features, labels, images, list("abcd")) == 4
