# SPDX-License-Identifier: Apache-2.0
"""Weights in PyTorch's legacy files, read without PyTorch and without executing anything.

Such a file is a magic number, a protocol, a description of the machine, a dictionary of
tensors that refer to storages, the storages' keys, each a pickle; then for each key the
number of its elements, int64, and the elements.
"""

import io
import math
import pathlib

import numpy as np

from deepncm_tf.backbones import plain_pickle

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MOST_DIMENSIONS = 32
DTYPES = {
    "torch DoubleStorage": "<f8",
    "torch FloatStorage": "<f4",
    "torch HalfStorage": "<f2",
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
    "torch ShortStorage": "<i2",
    "torch CharStorage": "i1",
    "torch ByteStorage": "u1",
    "torch BoolStorage": "?",
}


def read(path):
    """Reads the tensors of a state dictionary.

    Args:
        path: Path of a file of `torch.save` in its legacy format.

    Returns:
        Dictionary of read-only NumPy arrays by name.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is no such file, is damaged, or holds anything but tensors.
    """
    data = pathlib.Path(path).read_bytes()
    try:
        return _read(data)
    except ValueError as error:
        raise ValueError(
            f"A file of PyTorch's weights must be a whole state dictionary in the legacy "
            f"format ({error}). Received: {path}"
        ) from error


def _read(data):
    file = io.BytesIO(data)
    if data[:4] == b"PK\x03\x04":
        raise ValueError("it has the zip format of torch >= 1.6")
    if plain_pickle.load(file) != MAGIC:
        raise ValueError("another magic number")
    protocol = plain_pickle.load(file)
    if protocol != PROTOCOL:
        raise ValueError(f"its protocol is not {PROTOCOL}")
    machine = plain_pickle.load(file)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ValueError("it is not of a little-endian machine")

    storages = _Storages()
    tensors = plain_pickle.load(file, storages.functions(), storages.find)
    _check_tensors(tensors)
    keys = plain_pickle.load(file)
    storages.fill(keys, data, file.tell())
    return {name: _array(tensor) for name, tensor in tensors.items()}


def _check_tensors(tensors):
    if not isinstance(tensors, dict):
        raise ValueError("it holds no dictionary")
    for name, tensor in tensors.items():
        if type(name) is not str or type(tensor) is not _Tensor:
            raise ValueError(f"it holds {type(tensor).__name__} in place of a named tensor")


class _Storage:
    """The place of a storage, whose elements come at the file's end."""

    def __init__(self, dtype, count):
        self.dtype = dtype
        self.count = count
        self.elements = None


class _Tensor:
    """A tensor that refers to a storage."""

    def __init__(self, storage, offset, shape, strides):
        self.storage = storage
        self.offset = offset
        self.shape = shape
        self.strides = strides  # in elements


class _Storages:
    """The storages of a file, by their keys."""

    def __init__(self):
        self.by_key = {}

    def functions(self):
        """What a file may name, and what stands for it."""
        types = {name: _StorageType(dtype) for name, dtype in DTYPES.items()}
        return {
            **types,
            "collections OrderedDict": _empty_dictionary,
            "torch._utils _rebuild_tensor": _rebuild_tensor,
            "torch._utils _rebuild_tensor_v2": _rebuild_tensor,
        }

    def find(self, persistent_id):
        """The storage of a persistent id: (`"storage"`, type, key, device, count, view)."""
        if type(persistent_id) is not tuple or len(persistent_id) != 6:
            raise ValueError("a persistent id that is no storage's")
        word, named, key, _, count, view = persistent_id
        dtype = getattr(getattr(named, "function", None), "dtype", None)
        if word != "storage" or dtype is None or type(key) is not str or view is not None:
            raise ValueError("a persistent id that is no storage's")
        storage = self.by_key.setdefault(key, _Storage(dtype, _count(count)))
        if (storage.dtype, storage.count) != (dtype, count):
            raise ValueError(f"storage {key[:40]} with two types or numbers of elements")
        return storage

    def fill(self, keys, data, position):
        """Finds the elements of the storages in the file's bytes, from a position on."""
        if not isinstance(keys, list) or not all(type(key) is str for key in keys):
            raise ValueError("no list of the storages' keys")
        if len(keys) != len(set(keys)) or set(keys) != set(self.by_key):
            raise ValueError("the list of keys is not that of the storages")
        for key in keys:
            storage = self.by_key[key]
            if len(data) < position + 8:
                raise ValueError("it is cut")
            count = int.from_bytes(data[position : position + 8], "little", signed=True)
            position += 8
            if count != storage.count:
                raise ValueError(
                    f"storage {key[:40]} has {count} elements, not {storage.count}"
                )
            if len(data) - position < count * storage.dtype.itemsize:
                raise ValueError(f"storage {key[:40]} of {count} elements is cut")
            storage.elements = np.frombuffer(data, storage.dtype, count, position)
            position += count * storage.dtype.itemsize
        if position != len(data):
            raise ValueError(f"{len(data) - position} bytes follow the last storage")


class _StorageType:
    """A type of storages, which a persistent id names and nothing calls."""

    def __init__(self, dtype):
        self.dtype = np.dtype(dtype)

    def __call__(self, *_):
        raise ValueError("a storage outside a persistent id")


def _empty_dictionary(*arguments):
    if arguments:
        raise ValueError("an OrderedDict with arguments")
    return {}


def _rebuild_tensor(storage, offset, shape, strides, *_):
    """Stands for PyTorch's function; what it says of gradients and hooks is left out."""
    if (
        type(storage) is not _Storage
        or type(shape) is not tuple
        or type(strides) is not tuple
    ):
        raise ValueError("a tensor without storage, shape or strides")
    if len(shape) > MOST_DIMENSIONS or len(strides) != len(shape):
        raise ValueError(f"a tensor of {len(shape)} dimensions and {len(strides)} strides")
    offset = _count(offset)
    shape, strides = (tuple(map(_count, numbers)) for numbers in (shape, strides))
    size = math.prod(shape)
    last = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    # A stride of 0 would repeat elements: there must be as many as are asked for.
    if size > storage.count or (size and offset + last >= storage.count):
        raise ValueError(
            f"a tensor of shape {shape} from {offset} on in a storage of {storage.count}"
        )
    return _Tensor(storage, offset, shape, strides)


def _count(value):
    """A number of elements."""
    if type(value) is not int or not 0 <= value < 2**63:
        text = str(value) if type(value) is int else type(value).__name__
        raise ValueError(f"{text[:40]} in place of a number of elements")
    return value


def _array(tensor):
    elements = tensor.storage.elements
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, elements.dtype)
    pairs = zip(tensor.shape, tensor.strides, strict=True)
    strides = [0 if n == 1 else stride * elements.itemsize for n, stride in pairs]
    return np.lib.stride_tricks.as_strided(
        elements[tensor.offset :], tensor.shape, strides, writeable=False
    )
