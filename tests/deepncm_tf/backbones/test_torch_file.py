# SPDX-License-Identifier: Apache-2.0
"""PyTorch's legacy files: what they hold is read, and nothing of it is executed."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch_files

from deepncm_tf.backbones import torch_file

RNG = np.random.default_rng(0)
ARRAYS = {
    "conv.weight": RNG.normal(size=(4, 3, 2, 2)).astype("float32"),
    "bn.num_batches_tracked": np.array(7),
    "scalar": np.array(2.5, "float32"),
    "half": RNG.normal(size=3).astype("float16"),
    "mask": np.array([True, False]),
    "transposed": np.asfortranarray(RNG.normal(size=(2, 5))),
    "one": np.ones((1, 1, 1), "float32"),
}
VALUES = np.arange(6, dtype="float32")


def written(path, tensors, keys=("1",), arrays=(VALUES,), count=None):
    """A file of tensors as opcodes, and of the storages' arrays."""
    data = [torch_files.start(), torch_files.dictionary(tensors), pickle.dumps([*keys], 2)]
    data += [torch_files.elements(array, count) for array in arrays]
    path.write_bytes(b"".join(data))
    return path


def of(shape=(6,), strides=(1,), offset=0, count=6, **kwargs):
    storage = torch_files.storage("1", "float32", count, **kwargs)
    return torch_files.tensor(storage, offset, shape, strides)


def test_what_is_written_is_read(tmp_path):
    found = torch_file.read(torch_files.write(tmp_path / "weights.pth", ARRAYS))
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)
        assert not found[name].flags.writeable


def test_tensors_may_share_a_storage(tmp_path):
    tensors = {
        "a": of((2, 2), (2, 1), 1),
        "b": of((2,), (3,), 2),
        "none": of((0, 3), (3, 1)),
    }
    found = torch_file.read(written(tmp_path / "weights.pth", tensors))
    np.testing.assert_array_equal(found["a"], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(found["b"], [2, 5])
    assert found["none"].shape == (0, 3)


def test_it_does_without_keras_and_pytorch():
    code = (
        "import sys, deepncm_tf.backbones.torch_file\n"
        "sys.exit(bool({'keras', 'tensorflow', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"a": of((7,))}, r"shape \(7,\) from 0 on in a storage of 6"),
        ({"a": of(offset=1)}, r"shape \(6,\) from 1 on"),
        ({"a": of((2**62, 2**62), (0, 0))}, "in a storage of 6"),
        ({"a": of((2, 2), (2**62, 1))}, "in a storage of 6"),
        ({"a": of((-1,))}, "-1 in place of a number"),
        ({"a": of((True,))}, "bool in place of a number"),
        ({"a": of((1,) * 40, (1,) * 40)}, "40 dimensions and 40 strides"),
        ({"a": of((6,), (1, 1))}, "1 dimensions and 2 strides"),
        ({"a": of((0, 2**62), (1, 1))}, "too big|exceeded"),
        ({"a": of(count=-6)}, "-6 in place of a number"),
        ({"a": of(count=10**30)}, "1000000+ in place of a number"),
        ({"a": of(), "b": of(count=5)}, "two types or numbers"),
        ({"a": of(word="module")}, "no storage's"),
        ({"a": of(view=(1,))}, "no storage's"),
        ({"a": torch_files.plain(3)}, "holds int in place of a named tensor"),
        ({3: of()}, "in place of a named tensor"),
        ({"a": torch_files.storage("1", "float32", 6)}, "holds _Storage in place"),
        ({}, "list of keys is not that of the storages"),
    ],
)
def test_tensors_that_do_not_agree_with_their_storage(tmp_path, tensors, reason):
    path = written(tmp_path / "weights.pth", tensors)
    with pytest.raises(ValueError, match=rf"must be a whole .*{reason}.*Received: .*pth"):
        torch_file.read(path)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"count": 5}, "has 5 elements, not 6"),
        ({"count": 2**62}, "4611686018427387904 elements, not 6"),
        ({"count": -1}, "has -1 elements"),
        ({"keys": ("2",)}, "list of keys"),
        ({"keys": ("1", "1")}, "list of keys"),
        ({"keys": (1,)}, "no list of the storages' keys"),
        ({"arrays": (VALUES[:5],), "count": 6}, "storage 1 of 6 elements is cut"),
        ({"arrays": ()}, "it is cut"),
        ({"arrays": (VALUES, VALUES)}, "32 bytes follow the last storage"),
    ],
)
def test_storages_that_do_not_agree_with_the_file(tmp_path, arguments, reason):
    path = written(tmp_path / "weights.pth", {"a": of()}, **arguments)
    with pytest.raises(ValueError, match=reason):
        torch_file.read(path)


def test_a_storage_larger_than_the_file_takes_no_memory(tmp_path):
    path = written(tmp_path / "weights.pth", {"a": of((2**61,), count=2**61)}, count=2**61)
    with pytest.raises(ValueError, match=f"storage 1 of {2**61} elements is cut"):
        torch_file.read(path)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "pickle exhausted"),
        (b"PK\x03\x04" + bytes(40), "zip format"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "instruction PERSID"),
        (torch_files.start(magic=3), "another magic number"),
        (torch_files.start(protocol=1002), "its protocol is not 1001"),
        (torch_files.start(machine={}), "little-endian"),
        (torch_files.start(machine=[]), "little-endian"),
        (torch_files.start(machine={"little_endian": False}), "little-endian"),
        (torch_files.start() + pickle.dumps([1], 2) + pickle.dumps([], 2), "no dictionary"),
    ],
)
def test_files_of_other_kinds(tmp_path, data, reason):
    (tmp_path / "weights.pth").write_bytes(data)
    with pytest.raises(ValueError, match=rf"must be a whole .*{reason}.*Received: "):
        torch_file.read(tmp_path / "weights.pth")


@pytest.mark.bad_input
def test_every_cut_is_refused(tmp_path):
    whole = torch_files.write(tmp_path / "whole.pth", ARRAYS).read_bytes()
    path = tmp_path / "cut.pth"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="must be a whole"):
            torch_file.read(path)


@pytest.mark.bad_input
def test_damaged_files_are_read_or_refused(tmp_path):
    whole = torch_files.write(tmp_path / "whole.pth", ARRAYS).read_bytes()
    path, refused = tmp_path / "damaged.pth", []
    for _ in range(500):
        data = bytearray(whole)
        for place in RNG.integers(len(data), size=3):
            data[place] = RNG.integers(256)
        path.write_bytes(data)
        try:
            torch_file.read(path)
        except ValueError as error:
            refused.append(str(error))
    assert len(refused) > 250
    for message in refused:
        assert message.startswith("A file of PyTorch's weights must be a whole")
