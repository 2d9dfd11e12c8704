# SPDX-License-Identifier: Apache-2.0
"""Hostile pickles: each is refused in clear words, and nothing of it is executed."""

import builtins
import collections
import io
import os
import pickle
import pickletools
import struct

import pytest
import torch_files

from deepncm_tf.backbones import plain_pickle, torch_file


class Calls:
    """Pickled, it asks for a call of a function with arguments."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def load(data, **kwargs):
    return plain_pickle.load(io.BytesIO(data), **kwargs)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        255,
        70_000,
        -5,
        2**80,
        "word",
        (),
        (1,),
        (1, 2),
        (1, 2, 3),
        (1, 2, 3, 4),
        [],
        [[1], [2, "a"]],
        {"a": {1: [(), None]}, "b": False},
        list(range(600)),
    ],
)
def test_plain_data(value):
    assert load(pickle.dumps(value, 2)) == value


def test_pickles_one_after_the_other():
    file = io.BytesIO(pickle.dumps([1], 2) + pickle.dumps("a", 2) + b"rest")
    assert plain_pickle.load(file) == [1]
    assert plain_pickle.load(file) == "a"
    assert file.read() == b"rest"


HOSTILE = {
    "os.system": Calls(os.system, "touch MARKER"),
    "eval": Calls(builtins.eval, "__import__('os').mkdir('MARKER')"),
    "exec": Calls(builtins.exec, "__import__('os').mkdir('MARKER')"),
    "open": Calls(open, "MARKER", "w"),
    "getattr": Calls(getattr, [], "append"),
    "nested": {"a": [1, (2, [Calls(os.mkdir, "MARKER")])]},
    "key": {Calls(os.mkdir, "MARKER"): 1},
    "pickle in a pickle": Calls(pickle.loads, pickle.dumps(Calls(os.mkdir, "MARKER"))),
    "counter": collections.Counter("aab"),
    "a global alone": os.system,
}


@pytest.mark.bad_input
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", range(6))
def test_calls_are_refused(tmp_path, monkeypatch, name, protocol):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(HOSTILE[name], protocol)
    with pytest.raises(ValueError, match=r"not admitted|it must be 2"):
        load(data)
    # In the place of the tensors of a file that is right otherwise, too.
    path = tmp_path / "weights.pth"
    path.write_bytes(torch_files.start() + data + pickle.dumps([], 2))
    with pytest.raises(ValueError, match=r"must be a whole .*Received: .*weights\.pth"):
        torch_file.read(path)
    assert os.listdir(tmp_path) == ["weights.pth"]


def test_these_pickles_would_be_executed(tmp_path, monkeypatch):
    """Python's own reader does what they ask for."""
    monkeypatch.chdir(tmp_path)
    for name in ("os.system", "eval", "exec", "nested", "key", "pickle in a pickle"):
        pickle.loads(pickle.dumps(HOSTILE[name], 2))
        marker = tmp_path / "MARKER"
        assert marker.exists(), name
        marker.rmdir() if marker.is_dir() else marker.unlink()


NAMES = [
    ("builtins", "eval"),
    ("__builtin__", "eval"),
    ("os", "system"),
    ("posix", "system"),
    ("torch.storage", "_load_from_bytes"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "FloatStorage.__init__"),
    ("torch", "FloatStorage.__class__"),
    ("collections", "OrderedDict.__init__"),
    ("collections.OrderedDict", "fromkeys"),
    ("collections", "_sys"),
    ("deepncm_tf.backbones.torch_file", "pathlib"),
]


@pytest.mark.bad_input
@pytest.mark.parametrize(("module", "name"), NAMES)
def test_names_next_to_the_admitted_are_refused(tmp_path, module, name):
    call = torch_files.named(module, name) + torch_files.plain(("1",)) + b"R"
    path = tmp_path / "weights.pth"
    path.write_bytes(torch_files.start() + torch_files.dictionary({"a": call}))
    with pytest.raises(ValueError, match=f"names '{module} {name}', which is not admitted"):
        torch_file.read(path)


FLOATS = torch_files.named("torch", "FloatStorage")
ORDERED = torch_files.named("collections", "OrderedDict")
ODD = {
    "a storage type called": (FLOATS + b"(K\x06tR", "storage outside a persistent id"),
    "a dictionary with arguments": (ORDERED + b"](K\x01K\x02ea\x85R", "no pickle"),
    "a dictionary of another": (ORDERED + b"}\x85R", "OrderedDict with arguments"),
    "a call of a number": (b"K\x01)R", "calls what is no function"),
    "a call with a list": (ORDERED + b"]R", "calls what is no function"),
    "a new object": (ORDERED + b")\x81", "instruction NEWOBJ, which is not admitted"),
    "an instance": (b"(ios\nsystem\n", "instruction INST"),
    "an object": (b"(" + ORDERED + b"o", "instruction OBJ"),
    "an extension": (b"\x82\x01", "instruction EXT1"),
    "a persistent line": (b"P1\n", "instruction PERSID"),
    "attributes of a name": (FLOATS + b"}b", "no pickle that agrees"),
    "attributes of a list": (b"]}b", "no pickle that agrees"),
    "a memo of billions": (b"Nr\xff\xff\xff\xffj\xfe\xff\xff\xff", "no pickle that agrees"),
    "a text of billions": (b"X\xff\xff\xff\xffabc", "expected 4294967295 bytes"),
    "a long of billions": (b"\x8b\xff\xff\xff\x7fabc", "long4"),
    "nothing to get": (b"h\x05", "no pickle that agrees"),
    "nothing to put": (b"q\x05", "no pickle that agrees"),
    "nothing to take": (b"\x85", "no pickle that agrees"),
    "no mark": (b"K\x01t", "no pickle that agrees"),
    "an odd dictionary": (b"}(K\x01u", "argument 2 is shorter"),
    "a list as a key": (b"}]K\x01s", "key of list"),
    "an item of a list": (b"]K\x01K\x02s", "no pickle that agrees"),
    "two values": (b"K\x01K\x02", "ends with 2 values"),
    "no value": (b"", "ends with 0 values"),
    "a persistent id of a number": (b"K\x01Q", "no storage's"),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ODD)
def test_odd_instructions_are_refused(tmp_path, name):
    opcodes, reason = ODD[name]
    path = tmp_path / "weights.pth"
    path.write_bytes(torch_files.start() + b"\x80\x02" + opcodes + b".")
    with pytest.raises(ValueError, match=rf"must be a whole .*{reason}"):
        torch_file.read(path)


@pytest.mark.bad_input
@pytest.mark.parametrize("place", ["shape", "strides", "count", "key", "item", "protocol"])
def test_depth_does_not_overflow_the_stack(tmp_path, place):
    depth = 100_000
    deep = b")" + b"\x85" * depth
    storage = torch_files.storage("1", "float32", 1)
    parts = {
        "shape": lambda: torch_files.tensor_of_parts(storage, b"K\x00", deep, b")"),
        "strides": lambda: torch_files.tensor_of_parts(storage, b"K\x00", b")", deep),
        "count": lambda: torch_files.tensor_of_parts(storage, deep, b")", b")"),
        "key": lambda: b"}" + deep + b"Ns",
        "item": lambda: deep,
        "protocol": lambda: deep,
    }
    opcodes = parts[place]()
    data = torch_files.start() + torch_files.dictionary({"a": opcodes})
    if place == "protocol":
        data = pickle.dumps(torch_file.MAGIC, 2) + b"\x80\x02" + deep + b"."
    (tmp_path / "weights.pth").write_bytes(data + pickle.dumps([], 2))
    with pytest.raises(ValueError, match="must be a whole"):
        torch_file.read(tmp_path / "weights.pth")


DONE = {
    *("PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "GLOBAL", "REDUCE", "BUILD"),
    *("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "BINPERSID"),
    *("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE"),
    *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
    *("BINPUT", "BINGET", "LONG_BINPUT", "LONG_BINGET"),
}


@pytest.mark.bad_input
def test_only_few_instructions_are_done():
    """Every instruction that pickles have is done, or refused by its name."""
    done = set()
    for opcode in pickletools.opcodes:
        reader = plain_pickle._Reader({}, None)
        reader.stack = [{}, 1, ()]
        try:
            reader.step(opcode.name, 2)
        except ValueError as error:
            if str(error).endswith(f"instruction {opcode.name}, which is not admitted"):
                continue
        except (IndexError, KeyError, TypeError):
            pass
        done.add(opcode.name)
    assert done == DONE


@pytest.mark.bad_input
def test_other_protocols_are_refused():
    assert load(struct.pack("<BB", 0x80, 2) + b"N.") is None
    with pytest.raises(ValueError, match="protocol 4; it must be 2"):
        load(pickle.dumps(1, 4))
