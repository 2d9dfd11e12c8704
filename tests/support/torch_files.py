# SPDX-License-Identifier: Apache-2.0
"""PyTorch's legacy files, written opcode by opcode, without PyTorch."""

import pickle
import struct

import numpy as np

from deepncm_tf.backbones import torch_file

STORAGES = {np.dtype(dtype): name for name, dtype in torch_file.DTYPES.items()}
MACHINE = {
    "protocol_version": 1001,
    "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
}
STOP = b"."
MARK = b"("


def start(magic=torch_file.MAGIC, protocol=torch_file.PROTOCOL, machine=MACHINE):
    """The three pickles before the tensors."""
    return b"".join(pickle.dumps(value, 2) for value in (magic, protocol, machine))


def plain(value):
    """Opcodes that put a plain value on the stack."""
    return pickle.dumps(value, 2)[2:-1]


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def storage(key, dtype, count, word="storage", view=None):
    """Opcodes of a storage's persistent id."""
    values = [plain(word), named(*STORAGES[np.dtype(dtype)].split()), plain(key)]
    values += [plain("cpu"), plain(count), plain(view)]
    return MARK + b"".join(values) + b"tQ"


def tensor(storage_opcodes, offset, shape, strides):
    """Opcodes of a tensor in a storage."""
    return tensor_of_parts(storage_opcodes, plain(offset), plain(shape), plain(strides))


def tensor_of_parts(*values):
    """As `tensor`, all arguments as opcodes."""
    hooks = named("collections", "OrderedDict") + b")R"
    arguments = MARK + b"".join([*values, plain(False), hooks]) + b"t"
    return named("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def tensor_of(key, array):
    strides = tuple(stride // array.itemsize for stride in array.strides)
    return tensor(storage(key, array.dtype, array.size), 0, array.shape, strides)


def dictionary(items, metadata=True):
    """A pickle of an OrderedDict of opcodes by name, with `_metadata` as PyTorch has it."""
    start = b"\x80\x02" + named("collections", "OrderedDict") + b")R"
    pairs = b"".join(plain(name) + opcodes for name, opcodes in items.items())
    end = plain({"_metadata": {"": {"version": 1}}}) + b"b" if metadata else b""
    return start + MARK + pairs + b"u" + end + STOP


def elements(array, count=None):
    count = array.size if count is None else count
    return struct.pack("<q", count) + array.tobytes(order="A")


def write(path, arrays):
    """Writes a state dictionary of arrays by name, each in a storage of its own."""
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    keys = {name: str(1000 + number) for number, name in enumerate(arrays)}
    parts = [
        start(),
        dictionary({name: tensor_of(keys[name], array) for name, array in arrays.items()}),
        pickle.dumps(sorted(keys.values()), 2),
        *(elements(arrays[name]) for name in sorted(keys, key=keys.get)),
    ]
    path.write_bytes(b"".join(parts))
    return path
