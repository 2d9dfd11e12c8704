# SPDX-License-Identifier: Apache-2.0
"""What `make docs` adds to MkDocs: formulae as MathML, tables.

Browsers draw MathML by themselves, so that formulae need neither scripts nor fonts.
"""

import html
import pathlib
from xml.etree import ElementTree

import latex2mathml.converter
from absl.flags import FlagValues
from markdown.blockprocessors import BlockProcessor
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor

from deepncm_tf import flags, imagenet_main, segmentation_main


class Mathematics(Extension):
    """`$x$` within a line, and `$$` around a paragraph of its own."""

    def extendMarkdown(self, md):  # noqa: N802  Markdown's own name
        # Before escapes (180), which would take the backslashes; after code (190).
        md.inlinePatterns.register(Inline(r"\$([^$\n]+)\$", md), "mathematics", 185)
        md.parser.blockprocessors.register(Display(md.parser), "display", 175)


class Inline(InlineProcessor):
    def handleMatch(self, match, data):  # noqa: N802
        mathml = self.md.htmlStash.store(to_mathml(match[1], "inline"))
        return mathml, match.start(0), match.end(0)


class Display(BlockProcessor):
    def test(self, parent, block):
        return block.startswith("$$") and block.endswith("$$")

    def run(self, parent, blocks):
        formula = blocks.pop(0).strip("$\n")
        element = ElementTree.SubElement(parent, "div", {"class": "formula"})
        element.text = self.parser.md.htmlStash.store(to_mathml(formula, "block"))


def to_mathml(formula, display):
    mathml = latex2mathml.converter.convert(formula, display=display)
    # Bars that grow with what is between them need fonts that not everyone has.
    return mathml.replace("<mo>&#x02016;</mo>", '<mo stretchy="false">&#x02016;</mo>')


def on_config(config):
    config.markdown_extensions.append(Mathematics())
    return config


def on_page_markdown(markdown, page, **_):
    markdown = markdown.replace("<!-- methods -->", methods_table())
    return markdown.replace("<!-- flags -->", flag_table())


def methods_table():
    """The README's table of all methods, so that its numbers are in one place."""
    readme = (pathlib.Path(__file__).parents[1] / "README.md").read_text()
    _, after = readme.split("(2 CPU cores, one thread a run):\n\n")
    return after.split("\n\n")[0]


def flag_table():
    """The flags of the programs that train, with the defaults of each, in Markdown."""
    of_cifar = FlagValues()
    flags.define(flag_values=of_cifar)
    programs = {
        "cifar_main": of_cifar,
        "imagenet_main": imagenet_main.FLAGS,
        "segmentation_main": segmentation_main.FLAGS,
    }
    titles = " | ".join(f"`{program}`" for program in programs)
    lines = [f"| flag | {titles} | meaning |", "|---|---|---|---|---|"]
    for name, flag in sorted(flags.TABLE.items()):
        meaning = html.escape(flag.help).replace("|", "\\|")
        defaults = " | ".join(default(values, name) for values in programs.values())
        lines.append(f"| `--{name}` | {defaults} | {meaning} |")
    return "\n".join(lines)


def default(values, name):
    """A program's default of a flag; a dash where it has no such flag."""
    if name not in values:
        return "–"
    return "" if values[name].default is None else f"`{values[name].default}`"
