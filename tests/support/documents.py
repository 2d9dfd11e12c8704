# SPDX-License-Identifier: Apache-2.0
"""Markdown files as tests read them: their code, what it says, their links.

    python tests/support/documents.py docs/guides/NAME.md ...

executes pages and writes what their code prints into the blocks of `text` after it.
"""

import contextlib
import copy
import importlib
import io
import pathlib
import re
import shlex
import sys
import textwrap

from deepncm_tf import flags

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FENCED = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def blocks(text):
    """The fenced blocks of a text: pairs of their language and what is in them."""
    return [(language, textwrap.dedent(code)) for _, language, code in FENCED.findall(text)]


def code_in(text, language="python"):
    """The blocks in one language, a list of strings."""
    return [code for of, code in blocks(text) if of == language]


def execute(text, name):
    """Executes the Python blocks of a text, one after the other.

    Returns:
        List of pairs: what a block prints that a block of `text` follows, and that text.
    """
    names, printed, said = {"__name__": "guide"}, "", []
    for language, code in blocks(text):
        if language == "python":
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(code, name, "exec"), names)
            printed = output.getvalue()
        elif language == "text":
            said.append((printed, code))
    return said


def assert_alike(printed, said):
    """Asserts that a text is another: its words and whole numbers to the letter, other
    numbers up to what differs between machines.
    """
    printed, said = printed.split(), said.split()
    shapes = [[NUMBER.sub("#", word) for word in words] for words in (printed, said)]
    assert shapes[0] == shapes[1], f"{' '.join(printed)} is not {' '.join(said)}"
    for one, other in zip(printed, said, strict=True):
        for a, b in zip(NUMBER.findall(one), NUMBER.findall(other), strict=True):
            near = abs(float(a) - float(b)) <= 0.02 + 0.03 * abs(float(b))
            assert near if "." in b else a == b, f"{a} is not {b}: {' '.join(printed)}"


def commands(text):
    """The `python -m deepncm_tf.X …` of a text: pairs of X and its flags."""
    text = text.replace("\\\n", " ")
    return re.findall(r"python -m deepncm_tf\.(\w+)([^\n`#]*)", text)


def check_command(module, command):
    """Asserts that a command has flags that exist, with values that are right."""
    if module in flags.PROGRAMS.values():
        pairs = re.findall(r"--(\w+)(?:=(\S+))?", command)
        assert len(pairs) == command.count("--")
        values = {name: flags.TABLE[name].kind(value or 1) for name, value in pairs}
        if module == "segmentation_main":
            values.setdefault("decoder", "deeplabv3")
        flags.resolve(values)
    else:
        known = copy.deepcopy(importlib.import_module(f"deepncm_tf.{module}").FLAGS)
        _, *pictures = known([module, *shlex.split(command)])
        assert pictures == (["PICTURES"] if module == "classify" else [])


def links(text):
    """Where a page's links and pictures lead, but for what its code says."""
    text = FENCED.sub("", text)
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text))


def anchors(text):
    """The anchors of a page's headings, as MkDocs makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", text), flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", one).strip().lower() for one in headings]
    return {re.sub(r"[-\s]+", "-", one) for one in plain}


def described():
    """What the reference describes, by full names, a list."""
    pages = "\n".join(path.read_text() for path in (DOCS / "reference").glob("*.md"))
    return re.findall(r"^::: (\S+)$", pages, flags=re.MULTILINE)


def write_outputs(path):
    """Writes what a page's code prints into the page."""
    text = path.read_text()
    for printed, said in execute(text, path.name):
        before, after = (f"```text\n{one.rstrip()}\n```" for one in (said, printed))
        text = text.replace(before, after, 1)
    path.write_text(text)


if __name__ == "__main__":
    for page in sys.argv[1:]:
        write_outputs(pathlib.Path(page).resolve())
