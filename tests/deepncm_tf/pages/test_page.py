# SPDX-License-Identifier: Apache-2.0
"""The pages as text: nothing from outside, nothing twice, nothing unescaped."""

import base64
import configparser
import hashlib
import html.parser
import itertools
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import read_page
import sample_pages

from deepncm_tf.pages import markup, page, page_frame

ROOT = pathlib.Path(__file__).parents[3]
KINDS = ("explanations", "gallery")
EMPTY = {"meta", "link", "input"}


class Reader(html.parser.HTMLParser):
    """The elements, with their attributes, and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.open = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in EMPTY:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.text.append(data)

    def all(self, name):
        return [attributes for element, attributes in self.elements if element == name]


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def text(kind):
    return sample_pages.both()[kind]


def test_names_are_text(kind, text):
    """Whatever the names are, the elements are the same, and the names can be read."""
    hostile = Reader(sample_pages.both(sample_pages.HOSTILE)[kind])
    found, expected = (
        [(name, *attributes) for name, attributes in reader.elements]
        for reader in (hostile, Reader(text))
    )
    assert found == expected
    shown = "".join(hostile.text)
    for name in sample_pages.HOSTILE:
        assert shown.count(name.replace("\ud800", "?")) > 3


def test_the_same_in_every_process_and_without_keras():
    code = (
        "import hashlib, sys, sample_pages; pages = str(sample_pages.both()).encode(); "
        "print(hashlib.sha256(pages).hexdigest(), {'keras', 'tensorflow'} & {*sys.modules})"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    digest = hashlib.sha256(str(sample_pages.both()).encode()).hexdigest()
    assert printed == {f"{digest} set()\n"}


def test_each_picture_is_there_once(text):
    reader = Reader(text)
    found = {}
    for symbol, image in zip(reader.all("symbol"), reader.all("image"), strict=True):
        file = base64.b64decode(image["href"].removeprefix("data:image/png;base64,"))
        assert (
            found.setdefault(read_page.pixels(file).tobytes(), symbol["id"]) == symbol["id"]
        )
    shown = [attributes["href"] for attributes in reader.all("use")]
    assert {*shown} == {f"#{name}" for name in found.values()}
    assert len(shown) > 2 * len(found)
    expected = {*range(8 if "Rule" in text else 16), *range(1000, 1007)}
    assert {*found} == {sample_pages.picture(index).tobytes() for index in expected}


def test_nothing_comes_from_outside(text):
    reader = Reader(text)
    (policy,) = (m["content"] for m in reader.all("meta") if "http-equiv" in m)
    sources = {
        element: "'sha256-"
        + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        + "'"
        for element in ("style", "script")
        for code in re.findall(f"<{element}>(.*?)</{element}>", text, flags=re.DOTALL)
    }
    assert policy == (
        f"default-src 'none'; img-src data:; style-src {sources['style']}; "
        f"script-src {sources['script']}; base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"https?:|//\w+\.", text)
    for _, attributes in reader.elements:
        for name, value in attributes.items():
            assert name != "style"
            assert not name.startswith("on")
            if name in ("href", "src"):
                assert value.startswith(("#", "data:"))


def test_structure(text):
    reader = Reader(text)
    levels = [int(name[1]) for name, _ in reader.elements if name in ("h1", "h2", "h3")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    assert reader.all("html") == [{"lang": "en"}]
    names = [name for name, _ in reader.elements]
    images = [i for i, svg in enumerate(reader.elements) if svg[1].get("role") == "img"]
    assert len(images) == names.count("use")
    assert all(names[i + 1] == "title" for i in images)
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len({*ids}) == len(ids)


def test_pictures_are_described(text):
    described = re.findall("<title>(.*?)</title><use", text)
    assert "query: query 3" in described
    words = "training image 5, class dog, similarity 0.922"
    if "Rule" in text:
        assert words in described
    else:
        assert {words + ", right", words + ", wrong", words} <= {*described}


def test_verdicts(kind, text):
    """A query is a mistake where one model is wrong."""
    verdicts = [card["data-verdict"] for card in Reader(text).all("article")]
    last = "right" if kind == "explanations" else "wrong"
    assert verdicts == ["right", "wrong", "right", "wrong", "unknown", "wrong", last]


def test_words_of_the_caller(text):
    if "Rule" in text:
        assert "<strong>IF</strong> near dog\n<strong>AND</strong> far from cat" in text
        assert "<small>predicted, score 1.000</small>" in text
        assert "<small>true class, score 0.750</small>" in text
    else:
        assert "1 of 5 neighbours right" in text
        assert ">predicted frog</span>" in text
    assert "<dt>accuracy</dt><dd>0.750</dd>" in text
    assert "<dt>True class</dt><dd>not known</dd>" in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.93, "0.930"), (-12.3456, "−12.346"), (-0.0001, "0.000"), (np.float32(1), "1.000"),
     (float("nan"), "nan")],
)  # fmt: skip
def test_numbers(value, shown):
    assert markup.number(value) == shown


def test_no_queries():
    text = page.gallery_page("None", {}, [])
    assert "0 of 0 shown" in text


@pytest.mark.bad_input
def test_images_that_are_not_bytes_are_refused():
    with pytest.raises(ValueError, match=r"uint8 array .* Received: float64 \(2, 2\)"):
        page_frame.Pictures().show(np.zeros((2, 2)), "", 64)


def test_style_and_script_are_installed():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    installed = {
        ROOT.joinpath(*package.split("."), name)
        for package, names in config["options.package_data"].items()
        for name in re.split(r"[,\s]+", names)
    }
    folders = (path for path in (ROOT / "deepncm_tf").rglob("*") if path.is_file())
    assert installed == {p for p in folders if p.suffix not in (".py", ".pyc")}
