# SPDX-License-Identifier: Apache-2.0
"""Files and functions stay short, so that each can be read at once."""

import ast
import pathlib
import statistics

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FOLDERS = ("deepncm_tf", "official_resnet", "experiments", "benchmarks", "tests")
FILES = {
    str(path.relative_to(ROOT)): path.read_text()
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def functions(text):
    """Names of a file's functions, with their numbers of lines without the docstring."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            told = 0 if docstring is None else docstring.count("\n") + 1
            yield node.name, node.end_lineno - node.lineno + 1 - told


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_and_functions_are_short(folder):
    files = {name: text for name, text in FILES.items() if name.startswith(f"{folder}/")}
    assert files
    assert {
        n: count for n, text in files.items() if (count := text.count("\n")) > 300
    } == {}
    long = [(file, *one) for file, text in files.items() for one in functions(text)]
    assert [one for one in long if one[2] > 50] == []


def test_half_of_the_files_are_a_page_or_two():
    assert statistics.median(text.count("\n") for text in FILES.values()) <= 120
