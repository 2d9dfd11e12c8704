# SPDX-License-Identifier: Apache-2.0
"""Banks written and read, and the projector's files."""

import io
import zipfile

import numpy as np
import pytest
import read_page

from deepncm_tf.data import bank_files
from deepncm_tf.pages import projector


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
    arrays = {"features": features, "labels": labels, "ids": np.arange(7)}
    save_bank(tmp_path / "bank.npz", arrays)
    with pytest.raises(ValueError, match=message):
        bank_files.read_bank(tmp_path / "bank.npz")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("features", np.full((7, 3), np.nan, "float32"), "features that are finite"),
        ("features", np.full((7, 3), np.inf, "float32"), "features that are finite"),
        ("features", np.full((7, 3), "a"), "Received: features of <U1"),
        ("features", np.full((7, 3), 1j), "Received: features of complex128"),
        ("features", np.full((7, 3), 1), "Received: features of int64"),
        (
            "features",
            np.zeros((7, 0), "float32"),
            r"Received: \[\(7, 0\), \(7,\), \(7,\)\]",
        ),
        ("ids", np.arange(7) // 2, "ids that are distinct"),
        ("ids", np.arange(6), r"Received: \[\(7, 3\), \(7,\), \(6,\)\]"),
        ("labels", np.arange(7) > 3, "Received: labels of bool"),
        ("labels", np.arange(8), r"Received: \[\(7, 3\), \(8,\), \(7,\)\]"),
    ],
)
@pytest.mark.parametrize("name", ["bank.npz", "bank.npy"])
def test_arrays_that_are_no_bank(bank, tmp_path, name, part, value, message):
    arrays = dict(zip(("features", "labels", "ids"), bank, strict=True)) | {part: value}
    message = rf"bank\.np[yz] must .*{message}"
    with pytest.raises(ValueError, match=message):
        bank_files.write_bank(tmp_path / name, *arrays.values())
    assert list(tmp_path.iterdir()) == []
    save_bank(tmp_path / name, arrays)
    with pytest.raises(ValueError, match=message):
        bank_files.read_bank(tmp_path / name)


def save_bank(path, arrays):
    """Writes arrays as a bank, whatever they are."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
        return
    for name, array in arrays.items():
        suffix = ".npy" if name == "features" else f".{name}.npy"
        np.save(path.with_suffix(suffix), array)


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["bank.npz", "bank.npy"])
def test_a_bank_without_rows(bank, tmp_path, name):
    arrays = {n: a[:0] for n, a in zip(("features", "labels", "ids"), bank, strict=True)}
    save_bank(tmp_path / name, arrays)
    with pytest.raises(ValueError, match=r"Received: \[\(0, 3\), \(0,\), \(0,\)\]"):
        bank_files.read_bank(tmp_path / name)


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["bank.npz", "bank.npy"])
@pytest.mark.parametrize("rows", [8, 2**40])
def test_memory_is_not_taken_for_what_a_header_claims(bank, tmp_path, name, rows):
    header = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (rows, 3)}
    np.lib.format.write_array_header_1_0(header, shape)
    content = header.getvalue() + bank[0].tobytes()
    bank_files.write_bank(tmp_path / name, *bank)
    if name == "bank.npy":
        (tmp_path / name).write_bytes(content)
    else:
        replace_member(tmp_path / name, "features.npy", content)
    with pytest.raises(ValueError, match=r"no bank that can be read \(.* claims") as raised:
        bank_files.read_bank(tmp_path / name)
    assert "MemoryError" not in str(raised.value)


def replace_member(path, name, content):
    with zipfile.ZipFile(path) as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for part, old in parts.items():
            archive.writestr(part, content if part == name else old)


@pytest.mark.bad_input
def test_memory_is_not_taken_for_what_an_archive_claims(bank, tmp_path):
    path = tmp_path / "bank.npz"
    bank_files.write_bank(path, *bank)
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02") + 24  # the first entry of the list of members
    assert int.from_bytes(data[place : place + 4], "little") == 128 + bank[0].nbytes
    data[place : place + 4] = (2**31).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"no bank that can be read \(.* claims"):
        bank_files.read_bank(path)


def test_projector(bank, tmp_path):
    features, labels, _ = bank
    images = np.random.default_rng(1).integers(256, size=(7, 4, 5, 3)).astype("uint8")
    names = ["a", "b\tc", "d\ne", "f"]
    assert projector.write_projector(tmp_path, features, labels, images, names) == 7
    tensors = np.loadtxt(tmp_path / "tensors.tsv", delimiter="\t")
    np.testing.assert_allclose(tensors, features, rtol=1e-5)
    lines = (tmp_path / "metadata.tsv").read_text().splitlines()
    assert lines[0] == "index\tclass"
    clean = ["a", "b c", "d e", "f"]
    assert lines[1:] == [f"{i}\t{clean[label]}" for i, label in enumerate(labels)]
    sprite = read_page.pixels((tmp_path / "sprite.png").read_bytes())
    assert sprite.shape == (12, 15, 3)  # three by three
    np.testing.assert_array_equal(sprite[4:8, 5:10], images[4])
    config = (tmp_path / "projector_config.pbtxt").read_text()
    assert "single_image_dim: 5\n    single_image_dim: 4" in config
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    parsed = text_format.Parse(config, ProjectorConfig())
    assert parsed.embeddings[0].tensor_path == "tensors.tsv"


def test_a_sprite_has_a_largest_size(bank, tmp_path, monkeypatch):
    monkeypatch.setattr(projector, "SPRITE_WIDTH", 10)
    features, labels, _ = bank
    images = np.zeros((7, 5, 5, 3), "uint8")
    assert projector.write_projector(tmp_path, features, labels, images, list("abcd")) == 4
