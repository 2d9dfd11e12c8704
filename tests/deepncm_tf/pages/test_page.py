# SPDX-License-Identifier: Apache-2.0
"""The pages as text: nothing from outside, nothing twice, nothing unescaped."""

import base64
import configparser
import hashlib
import itertools
import os
import pathlib
import re
import subprocess
import sys
import types

import jinja2
import numpy as np
import pytest
import read_page
import sample_pages

from deepncm_tf.pages import page, page_frame

ROOT = pathlib.Path(__file__).parents[3]
TEMPLATES = ROOT / "deepncm_tf" / "pages" / "templates"
KINDS = ("explanations", "gallery")


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def text(kind):
    return sample_pages.both()[kind]


@pytest.mark.parametrize("names", [sample_pages.PLAIN, sample_pages.HOSTILE])
def test_all_is_shown(kind, names):
    """Each query with all its neighbours and their pictures, whatever the names are.

    A query is a mistake where one model is wrong.
    """
    found = read_page.shown(sample_pages.both(names)[kind])
    names = [name.replace("\ud800", "?") for name in names]
    verdicts = ["right", "wrong", "right", "wrong", "unknown", "wrong"]
    verdicts.append("right" if kind == "explanations" else "wrong")
    cards = sample_pages.expected_cards(kind, names, verdicts)
    counts = [f"Mistakes {verdicts.count('wrong')}", f"Right {verdicts.count('right')}"]
    assert found["cards"] == cards  # first, as pytest shows where lists differ
    assert found == {
        "title": names[0],
        "facts": {names[0]: names[1], "accuracy": "0.750", "queries": "7"},
        "classes": sorted(names),
        "counts": ["All 7", *counts, "7 of 7 shown"],
        "cards": cards,
    }


def test_names_are_text(kind, text):
    """Whatever the names are, the elements and their attributes are the same."""
    hostile = sample_pages.both(sample_pages.HOSTILE)[kind]
    found, expected = (
        [(element.name, *element.attributes) for element in read_page.read(page).all()]
        for page in (hostile, text)
    )
    assert found == expected
    for name in sample_pages.HOSTILE[:3]:
        assert name not in hostile


@pytest.mark.parametrize("name", sample_pages.HOSTILE)
def test_names_of_queries_are_text(name):
    """They are those of files, which anyone may have named."""
    query = page.Retrieved(sample_pages.picture(0), name, None, {})
    (card,) = read_page.shown(page.gallery_page("One", {}, [query]))["cards"]
    name = name.replace("\ud800", "?")
    assert (card["name"], card["picture"][0]) == (name, f"query: {name}")


def test_what_the_templates_trust():
    """Only our own style and script go into a page as they are."""
    assert page_frame._templates().autoescape is True
    trusted = [
        words
        for path in TEMPLATES.iterdir()
        for words in re.findall(r"{{[^}]*\|\s*safe[^}]*}}|autoescape", path.read_text())
    ]
    assert trusted == ["{{ style|safe }}", "{{ script|safe }}"]


@pytest.mark.bad_input
def test_what_is_missing_is_no_blank():
    query = types.SimpleNamespace(image=sample_pages.picture(0), label=None, models={})
    with pytest.raises(jinja2.UndefinedError, match="has no attribute 'name'"):
        page.gallery_page("A query without a name", {}, [query])


def test_the_same_in_every_process_and_without_keras():
    code = (
        "import hashlib, sys, sample_pages; assert 'jinja2' not in sys.modules; "  # --help
        "pages = str(sample_pages.both()).encode(); "
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


def test_each_picture_is_there_once(kind, text):
    root = read_page.read(text)
    found = {}
    for symbol in root.all("symbol"):
        address = symbol.one("image")["href"].removeprefix(read_page.PNG)
        pixels = read_page.pixels(base64.b64decode(address)).tobytes()
        assert found.setdefault(pixels, symbol["id"]) == symbol["id"]
    shown = [use["href"] for use in root.all("use")]
    assert {*shown} == {f"#{name}" for name in found.values()}
    assert len(shown) > 2 * len(found)
    expected = {*range(8 if kind == "explanations" else 16), *range(1000, 1007)}
    assert {*found} == {sample_pages.picture(index).tobytes() for index in expected}


def test_nothing_comes_from_outside(text):
    root = read_page.read(text)
    (policy,) = (m["content"] for m in root.all("meta") if "http-equiv" in m.attributes)
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
    for element in root.all():
        for name, value in element.attributes.items():
            assert name != "style"
            assert not name.startswith("on")
            if name in ("href", "src"):
                assert value.startswith(("#", "data:"))


def test_structure(text):
    elements = [*read_page.read(text).all()]
    levels = [int(e.name[1]) for e in elements if e.name in ("h1", "h2", "h3")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    assert text.startswith("<!doctype html>\n<html")
    assert elements[0].attributes == {"lang": "en"}
    ids = [e["id"] for e in elements if "id" in e.attributes]
    assert len({*ids}) == len(ids)
    assert {e["aria-labelledby"] for e in elements if e.name == "article"} <= {*ids}
    for element in elements:  # pictures have words, and captions are not read out again
        if element.attributes.get("role") == "img":
            assert [part.name for part in element.inside] == ["title", "use"]
            assert element.one("title").text()
        if element.name == "li":
            assert element.one("span")["aria-hidden"] == "true"


def test_a_rule_keeps_its_lines_and_stresses_its_words():
    text = sample_pages.both()["explanations"]
    assert "<strong>IF</strong> near dog\n<strong>AND</strong> far from cat" in text
    rules = [p for p in read_page.read(text).all("p") if p.attributes == {"class": "rule"}]
    for query, rule in zip(sample_pages.explained(), rules, strict=True):
        assert rule.text() == query.rule
        assert [e.text() for e in rule.all("strong")] == ["IF", "AND", "THEN"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.93, "0.930"), (-12.3456, "−12.346"), (-0.0001, "0.000"), (np.float32(1), "1.000"),
     (float("nan"), "nan")],
)  # fmt: skip
def test_numbers(value, shown):
    assert page_frame.number(value) == shown
    near = page.Exemplar(sample_pages.picture(0), 0, "cat", value)
    query = page.Retrieved(sample_pages.picture(1), "query", "cat", {"m": ("cat", [near])})
    (card,) = read_page.shown(page.gallery_page("One", {}, [query]))["cards"]
    (neighbour,) = card["sections"][0]["neighbours"]
    assert neighbour["caption"] == f"cat {shown}"
    assert neighbour["picture"][0] == f"training image 0, class cat, similarity {shown}"


def test_facts():
    facts = {"whole": 3, "part": 0.5, "none": float("nan"), "zero": 0, "words": "a & b"}
    found = read_page.shown(page.gallery_page("Facts", facts, []))["facts"]
    assert found == {
        "whole": "3", "part": "0.500", "none": "nan", "zero": "0", "words": "a & b",
    }  # fmt: skip


@pytest.mark.parametrize("function", [page.gallery_page, page.explanations_page])
def test_no_queries(function):
    assert read_page.shown(function("None", {}, [])) == {
        "title": "None",
        "facts": {},
        "classes": [],
        "counts": ["All 0", "Mistakes 0", "Right 0", "0 of 0 shown"],
        "cards": [],
    }


def test_an_exemplar_of_another_class_is_named():
    near = page.Exemplar(sample_pages.picture(0), 7, "dog", 0.5)
    evidence = [page.ClassEvidence("cat", 1.0, [near])]
    query = page.Explained(sample_pages.picture(1), "query", None, "cat", evidence, "", "")
    (card,) = read_page.shown(page.explanations_page("One", {}, [query]))["cards"]
    assert card["sections"][0]["neighbours"][0]["caption"] == "dog 0.500"


def test_a_distance_is_called_so_and_a_picture_alone_is_large():
    near = page.Exemplar(sample_pages.picture(0), 7, "3", 1.3494, measure="distance")
    evidence = [page.ClassEvidence("3", 1.0, [near])]
    query = page.Explained(sample_pages.picture(1), "query", None, "3", evidence, "", "")
    text = page.explanations_page("One", {}, [query])
    (neighbour,) = read_page.shown(text)["cards"][0]["sections"][0]["neighbours"]
    assert neighbour["picture"][0] == "training image 7, class 3, distance 1.349"
    assert neighbour["caption"] == "no. 7 distance 1.349"
    assert read_page.read(text).one("li").one("svg")["width"] == "128"


@pytest.mark.parametrize(("size", "smooth"), [(99, None), (100, "smooth")])
def test_pictures_that_are_shown_smaller_are_smooth(size, smooth):
    image = np.zeros((size, 2), np.uint8)
    query = page.Retrieved(image, "query", None, {})
    root = read_page.read(page.gallery_page("One", {}, [query]))
    assert root.one("symbol")["viewbox"] == f"0 0 2 {size}"
    assert root.one("image").attributes.get("class") == smooth


@pytest.mark.bad_input
def test_images_that_are_not_bytes_are_refused():
    query = page.Retrieved(np.zeros((2, 2)), "query", "cat", {})
    with pytest.raises(ValueError, match=r"uint8 array .* Received: float64 \(2, 2\)"):
        page.gallery_page("One", {}, [query])


def test_style_script_and_templates_are_installed():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    installed = {
        path
        for package, names in config["options.package_data"].items()
        for name in re.split(r"[,\s]+", names)
        for path in ROOT.joinpath(*package.split(".")).glob(name)
    }
    folders = (path for path in (ROOT / "deepncm_tf").rglob("*") if path.is_file())
    assert installed == {p for p in folders if p.suffix not in (".py", ".pyc")}
    assert installed >= {*TEMPLATES.iterdir()} >= {TEMPLATES / "page.html.j2"}
