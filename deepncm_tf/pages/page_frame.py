# SPDX-License-Identifier: Apache-2.0
"""One HTML file of cards that can be filtered: complete, and without a network.

Each distinct picture is in the file once, as a data: URI in an SVG `<symbol>`, and is shown
by `<svg role="img"><use>` wherever it occurs. An `<img>` would repeat the 3 KB of a CIFAR
image each time: some 200 MB for 1,000 queries with 20 neighbours by each of three models.
A script that sets `img.src` would store it once too, but leave nothing to see where scripts
are off. Here the script only filters; without it every picture and every word is there. The
price: a browser's "save image as" does not know these pictures.
"""

import base64
import dataclasses
import hashlib
import importlib.resources

from deepncm_tf.pages import pictures
from deepncm_tf.pages.markup import Html, number, tag

SIGNS = {"right": "✓", "wrong": "✗", "unknown": "?"}
SMOOTH_FROM = 100  # pixels: larger pictures are shown smaller than they are
# With more pictures than this, cards out of sight are not laid out: 60,000 pictures then
# open in 4 seconds, not 24, and in a quarter of the memory. But screen readers do not know
# what such cards hold, so smaller pages do without.
MANY = 10_000


class Pictures:
    """The pictures of a page, each of them once."""

    def __init__(self):
        self._symbols = {}
        self.times_shown = 0

    def show(self, image, text, size):
        """The markup that shows a picture.

        Args:
            image: As for `pictures.png`.
            text: String, what is read out in its place, and shown under the mouse.
            size: Integer, width and height on the page.

        Returns:
            `Html`.
        """
        self.times_shown += 1
        image = pictures.checked(image)
        key = (image.shape, image.tobytes())
        name, _ = self._symbols.setdefault(key, (f"i{len(self._symbols)}", image))
        parts = tag("title", text), tag("use", href=f"#{name}")
        return tag("svg", *parts, role="img", width=size, height=size)

    def symbols(self):
        """The markup with the pictures themselves; it shows nothing."""
        symbols = [_symbol(name, image) for name, image in self._symbols.values()]
        return tag("svg", *symbols, class_="symbols", aria_hidden="true")


@dataclasses.dataclass(frozen=True)
class Card:
    """A query's part of the page, and what it is filtered by.

    Args:
        name: String, the heading.
        head: `Html` below the heading.
        body: `Html` beside it.
        label: String, the true class, or None where it is not known.
        predicted: List of strings, the class that each model predicts.
    """

    name: str
    head: Html
    body: Html
    label: str | None
    predicted: list

    def verdict(self):
        """`"right"` if every model is, `"wrong"` if one is not, or `"unknown"`."""
        verdicts = [verdict(self.label, predicted) for predicted in self.predicted]
        return next((v for v in ("unknown", "wrong") if v in verdicts), "right")


def verdict(label, predicted):
    if label is None:
        return "unknown"
    return "right" if predicted == label else "wrong"


def badge(kind, words=None):
    """A sign and words for `"right"`, `"wrong"` or `"unknown"`."""
    read = tag("span", kind, ": ", class_="read") if words else ""
    sign = tag("span", SIGNS[kind], " ", aria_hidden="true")
    return tag("span", sign, read, words or kind, class_=f"badge {kind}")


def facts_list(facts):
    """Names and values, as a definition list."""
    shown = (
        (name, number(value) if isinstance(value, float) else value)
        for name, value in facts.items()
    )
    pairs = (tag("div", tag("dt", name), tag("dd", value)) for name, value in shown)
    return tag("dl", *pairs)


def page(title, intro, facts, cards, shown):
    """The page.

    Args:
        title: String.
        intro: String, a paragraph on how to read the page.
        facts: Dictionary of names and strings or numbers, shown at the top.
        cards: List of `Card`.
        shown: `Pictures` of the cards.

    Returns:
        String, the HTML file, to be written as UTF-8; the same for the same arguments.
    """
    style, script = (_resource(name) for name in ("page.css", "page.js"))
    classes = sorted({c for card in cards for c in (card.label, *card.predicted)} - {None})
    policy = (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; "
        f"script-src {_source(script)}; base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", style),
    )
    body = tag(
        "body",
        tag("a", "Skip to the queries", class_="skip", href="#queries"),
        tag("header", tag("h1", title), tag("p", intro), facts_list(facts)),
        _filter(cards, classes),
        tag("main", *(_article(i, card, classes) for i, card in enumerate(cards)),
            id="queries", tabindex="-1", aria_label="Queries",
            class_="many" if shown.times_shown > MANY else None),
        shown.symbols(),
        tag("script", script),
    )  # fmt: skip
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _article(i, card, classes):
    return tag(
        "article",
        tag("div", tag("h2", card.name, id=f"q{i}"), card.head, class_="query"),
        tag("div", card.body, class_="body"),
        aria_labelledby=f"q{i}",
        data_verdict=card.verdict(),
        data_label="" if card.label is None else classes.index(card.label),
        data_predicted=" ".join(str(classes.index(name)) for name in card.predicted),
    )


def _filter(cards, classes):
    """Hidden until the script, without which it would do nothing, shows it."""
    verdicts = [card.verdict() for card in cards]
    choices = {"all": ("All", len(cards))}
    choices["mistakes"] = ("Mistakes", verdicts.count("wrong"))
    choices["right"] = ("Right", verdicts.count("right"))
    radios = (
        tag("label",
            tag("input", type="radio", name="show", value=value, checked=value == "all"),
            tag("span", words, " ", tag("small", count)))
        for value, (words, count) in choices.items()
    )  # fmt: skip
    roles = {
        "either": "true or predicted class",
        "true": "true class",
        "predicted": "predicted class",
    }
    return tag(
        "form",
        tag("fieldset", tag("legend", "Show"), *radios),
        _select("Class", "class", {"": "any class"} | {name: name for name in classes}),
        _select("which is the", "as", roles),
        tag("p", f"{len(cards)} of {len(cards)} shown", role="status", id="count"),
        tag("button", "Show all", type="button", id="clear", hidden=True),
        role="search",
        aria_label="Filter the queries",
        autocomplete="off",
        hidden=True,
    )


def _select(label, name, options):
    items = (tag("option", words, value=value) for value, words in options.items())
    return tag("label", tag("span", label), tag("select", *items, name=name))


def _symbol(name, image):
    height, width = image.shape[:2]
    data = base64.b64encode(pictures.png(image)).decode()
    picture = tag(
        "image",
        width=width,
        height=height,
        href=f"data:image/png;base64,{data}",
        class_="smooth" if max(height, width) >= SMOOTH_FROM else None,
    )
    return tag("symbol", picture, id=name, viewBox=f"0 0 {width} {height}")


def _resource(name):
    return Html(
        importlib.resources.files("deepncm_tf.pages").joinpath(name).read_text("utf-8")
    )


def _source(code):
    digest = hashlib.sha256(code.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
