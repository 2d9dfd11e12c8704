# SPDX-License-Identifier: Apache-2.0
"""Keras's sections of docstrings, for mkdocstrings, which knows Google's alone."""

import re
import textwrap

import griffe

ARGUMENTS = re.compile(r"^([*\w][*\w, ]*):", re.MULTILINE)
SECTION = re.compile(
    r"^(Call arguments|Input shape|Output shape|Reference):\n((?:(?: {4}.*)?\n)+)",
    re.MULTILINE,
)
# What Markdown would take for a tag, and code between backquotes, where it would not.
BRACKET = re.compile(r"(`[^`\n]*`)|<(?=[a-zA-Z/])")


class KerasSections(griffe.Extension):
    def on_object(self, *, obj, **_):
        if obj.docstring:
            obj.docstring.value = google(obj.docstring.value)


def google(docstring):
    """A docstring with the sections that Google's form lacks as paragraphs or lists."""
    text = re.sub(r"^Example:$", "Examples:", docstring, flags=re.MULTILINE)
    text = BRACKET.sub(lambda match: match[1] or "&lt;", text)
    text = SECTION.sub(_section, text.rstrip() + "\n")
    return re.sub(r"^Deviations:$", "Note: Deviations", text, flags=re.MULTILINE)


def _section(match):
    title, body = match[1], textwrap.dedent(match[2]).strip()
    if title == "Call arguments":
        body = ARGUMENTS.sub(r"- **`\1`**:", body)
    return f"**{title}:**\n\n{body}\n\n"
