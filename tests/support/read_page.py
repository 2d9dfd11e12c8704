# SPDX-License-Identifier: Apache-2.0
"""What the pages and their pictures show, read from the HTML as plain data."""

import base64
import html.parser
import io

import numpy as np
from PIL import Image

EMPTY = {"meta", "link", "input"}  # elements that have no end
PNG = "data:image/png;base64,"


def pixels(file):
    """The `(h, w, c)` uint8 array of a PNG file's bytes."""
    picture = Image.open(io.BytesIO(file), formats=["PNG"])
    return np.atleast_3d(np.asarray(picture))


class Element:
    """An element, with its attributes and with the elements and strings in it."""

    def __init__(self, name, attributes):
        self.name, self.attributes, self.inside = name, attributes, []

    def __getitem__(self, attribute):
        return self.attributes[attribute]

    def all(self, name=None):
        """The elements in it at any depth, or those of a name, as they are written."""
        for part in self.inside:
            if isinstance(part, Element):
                if name in (None, part.name):
                    yield part
                yield from part.all(name)

    def one(self, name):
        (found,) = self.all(name)
        return found

    def strings(self):
        for part in self.inside:
            yield from part.strings() if isinstance(part, Element) else [part]

    def text(self):
        return "".join(self.strings())

    def words(self):
        """The text, with one space between the texts of its elements."""
        return " ".join(" ".join(self.strings()).split())


class _Reader(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open = [Element("", {})]
        self.feed(text)
        self.close()
        (self.root,) = self.open  # all others have ended

    def handle_starttag(self, name, attributes):
        assert len(dict(attributes)) == len(attributes), (name, attributes)
        element = Element(name, dict(attributes))
        self.open[-1].inside.append(element)
        if name not in EMPTY:
            self.open.append(element)

    def handle_endtag(self, name):
        assert self.open.pop().name == name

    def handle_data(self, data):
        self.open[-1].inside.append(data)


def read(text):
    """The `Element` that holds the page; elements must end as they begin."""
    return _Reader(text).root


def shown(text):
    """What a page shows.

    Returns:
        Dictionary: the title; the facts at the top; the classes and the counts of the
        filter; and the cards, each a dictionary with the query's name, picture and facts,
        what it is filtered by, and its sections: heading, words, neighbours. A picture is
        a pair, the words that stand for it and its `pixels` as nested lists.
    """
    root = read(text)
    symbols = {s["id"]: s.one("image")["href"] for s in root.all("symbol")}
    pictures = {
        name: pixels(base64.b64decode(address.removeprefix(PNG))).tolist()
        for name, address in symbols.items()
    }
    classes, _ = ([o.text() for o in s.all("option")] for s in root.all("select"))
    radios = [label.words() for label in root.one("fieldset").all("label")]
    return {
        "title": root.one("h1").text(),
        "facts": _facts(root.one("header")),
        "classes": classes[1:],  # after "any class"
        "counts": [*radios, root.one("form").one("p").text()],
        "cards": [_card(card, classes[1:], pictures) for card in root.all("article")],
    }


def _card(card, classes, pictures):
    query, body = card.inside[1], card.inside[3]  # 0, 2 and 4 are line breaks
    label = card["data-label"]
    return {
        "name": query.one("h2").text(),
        "picture": _picture(query, pictures),
        "facts": _facts(query),
        "badge": next((s.words() for s in query.inside if _is(s, "span")), None),
        "verdict": card["data-verdict"],
        "label": None if label == "" else classes[int(label)],
        "predicted": [classes[int(place)] for place in card["data-predicted"].split()],
        "sections": [_section(section, pictures) for section in body.all("section")],
    }


def _section(section, pictures):
    neighbours = [
        {
            "picture": _picture(item, pictures),
            "mark": item.attributes.get("class"),
            "caption": item.one("span").words(),
        }
        for item in section.all("li")
    ]
    return {
        "heading": section.one("h3").words(),
        "words": " ".join(p.words() for p in section.all("p")),
        "neighbours": neighbours,
    }


def _picture(element, pictures):
    svg = element.one("svg")
    assert svg["role"] == "img"
    return svg.one("title").text(), pictures[svg.one("use")["href"].removeprefix("#")]


def _facts(element):
    names, values = ([e.text() for e in element.all(name)] for name in ("dt", "dd"))
    return dict(zip(names, values, strict=True))


def _is(part, name):
    return isinstance(part, Element) and part.name == name
