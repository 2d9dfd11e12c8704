# SPDX-License-Identifier: Apache-2.0
"""A grid of runs: a table whose columns are flags and whose rows are runs.

The flags are those of `cifar_main`, or with a value of `decoder` of `segmentation_main`.
Cells are separated by tabs, and may be quoted as spreadsheets do; a blank cell leaves the
flag at its default.
"""

import contextlib
import csv
import dataclasses
import operator
import pathlib
import re
import shlex

from deepncm_tf import flags

DRIVEN = ("model_dir", "overwrite")  # the sweep's own, not the grid's
OPERATORS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
INVISIBLE = r"[\s\u200b\u2060\ufeff]*"  # also what spreadsheets and web pages leave behind
AROUND = re.compile(f"^{INVISIBLE}|{INVISIBLE}$")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
TERM = re.compile(r"""\s*(\w+)\s*(==|!=|<=|>=|<|>)\s*('[^']*'|"[^"]*"|\S+)\s*""")


class GridError(ValueError):
    """The grid, or a choice from it, cannot be run."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One run of a grid.

    Attributes:
        line: Its line in the file, from 1.
        cells: Dictionary of the flags it gives, as text; without blanks.
        config: Dictionary of resolved flags.
    """

    line: int
    cells: dict
    config: dict

    @property
    def run(self):
        return flags.run_name(self.config)

    def command(self, model_dir):
        """The row as a command line, to be read and pasted."""
        given = [f"--{name}={value}" for name, value in self.cells.items()]
        program = flags.PROGRAMS[flags.task_of(self.config)]
        return shlex.join(
            ["python", "-m", f"deepncm_tf.{program}", *given, f"--model_dir={model_dir}"]
        )


def read(path, only=None):
    """Reads and checks a grid.

    Args:
        path: Path of a tab-separated file with a header of flags' names.
        only: String such as `ncm==decay and learning_rate>=0.1`, which selects rows by
            their resolved flags.

    Returns:
        List of `Row`.

    Raises:
        GridError: If the file is not there, a row is not a run, two rows are one run, or
            `only` is not a condition or selects nothing.
    """
    _, header = next(records := _records(path), (1, []))
    while header and not header[-1]:
        del header[-1]
    _check_header(path, header)
    rows, seen = [], {}
    for number, cells in records:
        if not any(cells):
            continue
        row = _row(path, number, header, cells)
        if row.run in seen:
            raise GridError(f"{path}:{number}: the same run as line {seen[row.run]}.")
        seen[row.run] = number
        rows.append(row)
    if not rows:
        raise GridError(f"{path}: there must be a row below the header. Received none.")
    return rows if only is None else select(rows, only)


def check_outputs(path, outputs):
    """Refuses a grid that a file to be written would replace.

    Args:
        path: Path of the grid.
        outputs: Paths of files.

    Raises:
        GridError: If one of them is the grid.
    """
    for output in outputs:
        if output.exists() and output.samefile(path):
            raise GridError(
                "GRID must be another file than what is written. Received: "
                f"{path}, which is {output}"
            )


def select(rows, only, argument="--only"):
    """The rows for which a condition holds; see `read`.

    Args:
        rows: List of `Row`.
        only: String, the condition.
        argument: String, what it was given as.
    """
    texts = re.split(r"\sand\s(?=\s*\w+\s*[=!<>])|&&", only)
    terms = [_term(text, only, argument) for text in texts]
    chosen = [row for row in rows if all(term(row.config) for term in terms)]
    if not chosen:
        raise GridError(
            f"{argument} selects none of {len(rows)} rows. Received: {argument}={only}"
        )
    return chosen


def _records(path):
    """Lines of a grid: each its number, from 1, and a list of cells."""
    try:
        with pathlib.Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t", strict=True)
            try:
                for cells in reader:
                    yield reader.line_num, [AROUND.sub("", cell) for cell in cells]
            except csv.Error as error:
                raise GridError(f"{path}:{reader.line_num}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise GridError(
            f"The grid must be a tab-separated text file, for example "
            f"experiments/demo.tsv ({error}). Received: {path}"
        ) from error


def _check_header(path, header):
    for name in header or [""]:
        if name not in flags.TABLE or name in DRIVEN:
            raise GridError(
                f"{path}:1: columns must be flags of cifar_main or segmentation_main "
                f"other than {' and '.join(DRIVEN)}. Received: {name!r}"
            )
        if header.count(name) > 1:
            raise GridError(f"{path}:1: the column {name} is there twice.")


def _row(path, number, header, cells):
    while len(cells) > len(header) and not cells[-1]:
        del cells[-1]
    if len(cells) != len(header):
        raise GridError(
            f"{path}:{number}: a row must have {len(header)} cells, separated by tabs, as "
            f"the header has. Received: {len(cells)}"
        )
    given = {name: text for name, text in zip(header, cells, strict=True) if text}
    for name, text in given.items():
        if CONTROL.search(text):
            raise GridError(
                f"{path}:{number}: cells must be of one line, without tabs inside. "
                f"Received: --{name}={text!r}"
            )
    try:
        values = {name: _value(name, text) for name, text in given.items()}
        return Row(number, given, flags.resolve(values))
    except flags.FlagError as error:
        raise GridError(f"{path}:{number}: {error}") from error


def _value(name, text):
    """The value of a flag from its text, as on a command line."""
    flag = flags.TABLE[name]
    try:
        if flag.kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        return flag.canonical(flag.kind(text))
    except (KeyError, ValueError) as error:
        wanted = flag.wanted or f"of type {flag.kind.__name__}"
        raise flags.FlagError(
            f"--{name} must be {wanted}. Received: --{name}={text}"
        ) from error


def _term(text, only, argument):
    """A function of a config from `name==value` and the like."""
    match = TERM.fullmatch(text)
    if not match or match[1] not in flags.TABLE:
        raise GridError(
            f"{argument} must be FLAG==VALUE (or != < <= > >=), joined by 'and'. "
            f"Received: {argument}={only}"
        )
    name, sign, wanted = match.groups()
    try:
        wanted = _comparable(name, _value(name, _unquoted(wanted)))
    except flags.FlagError as error:
        raise GridError(f"{argument}={only}: {error}") from error

    def holds(config):
        value = config.get(name)
        if value is None:  # a flag of another method, or one without a default
            return sign == "!="
        value = _comparable(name, value)
        if type(value) is not type(wanted):  # a word, and a number
            return sign == "!="
        return OPERATORS[sign](value, wanted)

    return holds


def _unquoted(text):
    return text[1:-1] if text[0] in "'\"" and text[0] == text[-1] else text


def _comparable(name, value):
    """A flag's value, where a text is a number as that number: 10 is more than 9."""
    with contextlib.suppress(TypeError, ValueError):
        return flags.TABLE[name].number(value)
    return value
