# SPDX-License-Identifier: Apache-2.0
"""One HTML file of cards that can be filtered: complete, and without a network.

The files in `templates/` say what it looks like. In them text is text: what comes from the
caller is escaped.

Each distinct picture is in the file once, as a data: URI in an SVG `<symbol>`, and is shown
by `<svg role="img"><use>` wherever it occurs. An `<img>` would repeat the 3 KB of a CIFAR
image each time: some 200 MB for 1,000 queries with 20 neighbours by each of three models.
A script that sets `img.src` would store it once too, but leave nothing to see where scripts
are off. Here the script only filters; without it every picture and every word is there. The
price: a browser's "save image as" does not know these pictures.
"""

import base64
import dataclasses
import functools
import hashlib
import importlib.resources
import re

from deepncm_tf.pages import pictures

SMOOTH_FROM = 100  # pixels: larger pictures are shown smaller than they are
# With more pictures than this, cards out of sight are not laid out: 60,000 pictures then
# open in 4 seconds, not 24, and in a quarter of the memory. But screen readers do not know
# what such cards hold, so smaller pages do without.
MANY = 10_000


class Pictures:
    """The pictures of a page, each of them once."""

    def __init__(self):
        self._names, self._images = {}, []

    def name(self, image):
        """The name of the symbol that shows a picture, given as for `pictures.png`."""
        image = pictures.checked(image)
        key = (image.shape, image.tobytes())
        if key not in self._names:
            self._names[key] = f"i{len(self._images)}"
            self._images.append(image)
        return self._names[key]

    def symbols(self):
        """What the template needs to know of each symbol."""
        for i, image in enumerate(self._images):
            height, width = image.shape[:2]
            yield {
                "name": f"i{i}",
                "width": width,
                "height": height,
                "address": f"data:image/png;base64,{_base64(pictures.png(image))}",
                "smooth": max(height, width) >= SMOOTH_FROM,
            }


@dataclasses.dataclass(frozen=True, eq=False)
class Card:
    """A query, and what its part of the page is filtered by.

    Args:
        query: `page.Explained` or `page.Retrieved`.
        predicted: Sequence of strings, the class that each model predicts.
        exemplars: Sequence of lists of `page.Exemplar`, all those that are shown.
    """

    query: object
    predicted: list
    exemplars: list

    @property
    def verdict(self):
        """`"right"` if every model is, `"wrong"` if one is not, or `"unknown"`."""
        verdicts = [verdict(self.query.label, predicted) for predicted in self.predicted]
        return next((v for v in ("unknown", "wrong") if v in verdicts), "right")


def verdict(label, predicted):
    if label is None:
        return "unknown"
    return "right" if predicted == label else "wrong"


def number(value):
    """A number with three decimals and a true minus sign."""
    return f"{round(float(value), 3) + 0.0:.3f}".replace("-", "−")


def keywords(rule):
    """A rule in parts, of which every second is an IF, AND or THEN."""
    return re.split(r"\b(IF|AND|THEN)\b", rule)


def page(kind, title, facts, cards, **summary):
    """The page.

    Args:
        kind: String, `"explanations"`, `"gallery"` or `"teaching"`, of which there are
            templates.
        title: String.
        facts: Dictionary of names and strings or numbers, shown at the top.
        cards: List of `Card`.
        **summary: What the template shows above the cards, where it does.

    Returns:
        String, the HTML file, to be written as UTF-8; the same for the same arguments.
    """
    style, script = (_resource(name) for name in ("page.css", "page.js"))
    names = {name for card in cards for name in (card.query.label, *card.predicted)}
    classes = sorted(names - {None})
    shown = len(cards) + sum(len(part) for card in cards for part in card.exemplars)
    template = _templates().get_template(f"{kind}.html.j2")
    text = template.render(
        title=title,
        facts=facts,
        cards=cards,
        classes=classes,
        place={name: i for i, name in enumerate(classes)},
        many=shown > MANY,
        pictures=Pictures(),
        policy=_policy(style, script),
        style=style,
        script=script,
        **summary,
    )
    # A lone surrogate, as file names can have, could not be written as UTF-8.
    return text.encode("utf-8", "replace").decode()


@functools.cache
def _templates():
    import jinja2  # here, as a command line's --help does without

    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("deepncm_tf.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {"number": number, "keywords": keywords}
    templates.globals["verdict"] = verdict
    return templates


def _resource(name):
    return importlib.resources.files("deepncm_tf.pages").joinpath(name).read_text("utf-8")


def _policy(style, script):
    """Nothing is loaded, and of style and script only our own are heeded."""
    style, script = (
        f"'sha256-{_base64(hashlib.sha256(code.encode()).digest())}'"
        for code in (style, script)
    )
    return (
        f"default-src 'none'; img-src data:; style-src {style}; "
        f"script-src {script}; base-uri 'none'; form-action 'none'"
    )


def _base64(data):
    return base64.b64encode(data).decode()
