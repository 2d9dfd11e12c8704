# SPDX-License-Identifier: Apache-2.0
"""Pickles of plain data, read by an interpreter that has no way to call what they name.

Python's own `pickle` imports and calls whatever a file asks for. Here a file may build
dictionaries, lists, tuples, numbers and strings, name what the reader has admitted, and
apply that to arguments; any other instruction is refused before it does anything.
"""

import pickletools

MARK = object()
CONSTANTS = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "EMPTY_TUPLE": (),
}
VALUES = ("BININT", "BININT1", "BININT2", "BINUNICODE", "LONG1")
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def load(file, functions=(), persistent=None):
    """Reads one pickle of protocol 2 and leaves the file at its end.

    Args:
        file: A seekable binary file that is in memory, such as `io.BytesIO`.
        functions: Dictionary of what the pickle may name, by `"module name"`: functions
            of the reader's own that stand for it.
        persistent: Function from a persistent id to what it stands for, or None for none.

    Returns:
        What the pickle holds.

    Raises:
        ValueError: If it is no pickle, is cut, or asks for anything else.
    """
    reader = _Reader(dict(functions), persistent)
    try:
        for opcode, argument, _ in pickletools.genops(file):
            reader.step(opcode.name, argument)
    except (IndexError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"no pickle that agrees with itself: {error!r}"[:200]) from error
    return reader.result()


class _Reader:
    """The stack and the memo of a pickle."""

    def __init__(self, functions, persistent):
        self.functions = functions
        self.persistent = persistent
        self.stack = []
        self.memo = {}

    def result(self):
        if len(self.stack) != 1:
            raise ValueError(
                f"a pickle that ends with {len(self.stack)} values on its stack"
            )
        return self.stack[0]

    def step(self, name, argument):
        """Does one instruction."""
        if name in VALUES:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in TUPLES:
            self._replace(TUPLES[name], tuple)
        else:
            instruction = getattr(self, f"do_{name.lower()}", None)
            if instruction is None:
                raise ValueError(
                    f"a pickle with the instruction {name}, which is not admitted"
                )
            instruction(argument)

    def _replace(self, count, kind):
        if not 0 < count <= len(self.stack):
            raise IndexError("too few values on the stack")
        values = self.stack[-count:]
        self.stack[-count:] = [kind(values)]

    def _since_mark(self):
        """What was put on the stack since the last mark, which is taken off with it."""
        place = len(self.stack) - 1
        while self.stack[place] is not MARK:  # an IndexError where there is none
            place -= 1
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def do_proto(self, version):
        if version != 2:
            raise ValueError(f"a pickle of protocol {version}; it must be 2")

    def do_stop(self, _):
        pass

    def do_mark(self, _):
        self.stack.append(MARK)

    def do_tuple(self, _):
        self.stack.append(tuple(self._since_mark()))

    def do_empty_list(self, _):
        self.stack.append([])

    def do_empty_dict(self, _):
        self.stack.append({})

    def do_append(self, _):
        value = self.stack.pop()
        self._top(list).append(value)

    def do_appends(self, _):
        values = self._since_mark()
        self._top(list).extend(values)

    def do_setitem(self, _):
        value, key = self.stack.pop(), self.stack.pop()
        self._set(key, value)

    def do_setitems(self, _):
        values = self._since_mark()
        for key, value in zip(values[::2], values[1::2], strict=True):
            self._set(key, value)

    def _set(self, key, value):
        if type(key) not in (str, int):
            raise ValueError(f"a pickle with a key of {type(key).__name__}")
        self._top(dict)[key] = value

    def _top(self, kind):
        if type(self.stack[-1]) is not kind:
            raise TypeError(f"{type(self.stack[-1]).__name__} is no {kind.__name__}")
        return self.stack[-1]

    def do_binput(self, place):
        self.memo[place] = self.stack[-1]

    do_long_binput = do_binput

    def do_binget(self, place):
        self.stack.append(self.memo[place])

    do_long_binget = do_binget

    def do_global(self, name):
        if name not in self.functions:
            raise ValueError(f"a pickle that names {name!r:.100}, which is not admitted")
        self.stack.append(_Named(self.functions[name]))

    def do_reduce(self, _):
        arguments, named = self.stack.pop(), self.stack.pop()
        if type(named) is not _Named or type(arguments) is not tuple:
            raise ValueError("a pickle that calls what is no function")
        self.stack.append(named.function(*arguments))

    def do_build(self, _):
        """Attributes of a dictionary, such as PyTorch's `_metadata`, are left out."""
        self.stack.pop()
        self._top(dict)

    def do_binpersid(self, _):
        if self.persistent is None:
            raise ValueError("a pickle with a persistent id where there is none")
        self.stack.append(self.persistent(self.stack.pop()))


class _Named:
    """What a pickle has named; it can be applied, and nothing else."""

    def __init__(self, function):
        self.function = function
