# SPDX-License-Identifier: Apache-2.0
"""The pages in a real browser: what is drawn, filtered, read out and printed."""

import itertools
import re

import browser as browsers
import numpy as np
import pytest
import read_page
import sample_pages

from deepncm_tf.pages import page_frame

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        browsers.find() is None,
        reason="needs Chromium or Chrome: on Debian, apt-get install chromium",
    ),
]
NAMES = sample_pages.HOSTILE
SHOWN = "[...document.querySelectorAll('article:not([hidden]) h2')].map(h => h.textContent)"
PLACES = """[...document.querySelectorAll('svg[role=img]')].map(svg => {
  const {x, y, width, height} = svg.getBoundingClientRect();
  return [svg.textContent, {x, y, width, height}];
})"""
# Of each text, the ratio of luminances to what is behind it, by WCAG 2's formula.
CONTRASTS = """(() => {
  const numbers = color => color.match(/[\\d.]+/g).map(Number);
  const light = color => numbers(color).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const {backgroundColor} = getComputedStyle(e);
      if ((numbers(backgroundColor)[3] ?? 1) === 1) return backgroundColor;
    }
    return 'rgb(255, 255, 255)';
  };
  const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const found = [];
  for (const e of document.body.querySelectorAll(':not(svg, svg *, script)')) {
    const written = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (written && e.checkVisibility()) {
      found.push([e.className || e.tagName,
                  ratio(light(getComputedStyle(e).color), light(behind(e)))]);
    }
    const mark = getComputedStyle(e, '::before');
    if (mark.content !== 'none') {
      found.push(['mark', ratio(light(mark.color), light(mark.backgroundColor))]);
    }
  }
  return found;
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsers.start(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for kind, text in sample_pages.both(NAMES).items():
        (folder / f"{kind}.html").write_text(text, encoding="utf-8")
    return {kind: folder / f"{kind}.html" for kind in ("explanations", "gallery")}


@pytest.fixture(params=["explanations", "gallery"])
def path(request, paths, browser):
    browser.resize(1280)
    browser.prefer("light")
    browser.complaints.clear()
    browser.requests.clear()
    yield paths[request.param]
    assert browser.complaints == []
    assert {url[:5] for url in browser.requests} <= {"about", "file:", "data:"}


@pytest.mark.parametrize("scripts", [True, False])
def test_every_picture_is_drawn(browser, path, scripts):
    """The screen has the colours of the four pixels of each, also without scripts."""
    browser.resize(1280, 6000)  # all of it
    browser.open(path, scripts=scripts)
    assert browser.run("document.documentElement.scrollHeight") == 6000
    assert browser.run("document.querySelector('form').hidden") is not scripts
    places = browser.run(PLACES)
    assert len(places) == 7 * (1 + (8 if path.stem == "explanations" else 10))
    for words, clip in places[:: 1 if scripts else 5]:
        (index,) = re.findall(r"training image (\d+)|query: query (\d+)", words)
        index = int(index[0] or 1000 + int(index[1]))
        assert clip["width"] == clip["height"] == (128 if index >= 1000 else 64)
        drawn = read_page.pixels(browser.screenshot(**clip))[..., :3]
        inner = [3 * len(drawn) // 8, 5 * len(drawn) // 8]  # near the middle: no blur
        expected = sample_pages.picture(index)
        np.testing.assert_array_equal(drawn[np.ix_(inner, inner)], expected)


def wanted(kind, show, name, role):
    """The numbers of the queries that are to be shown."""
    for i, (label, *predictions) in enumerate(sample_pages.OUTCOMES):
        predictions = predictions[: 1 if kind == "explanations" else 2]
        right = None if label is None else {*predictions} == {label}
        found = {"true": [label], "predicted": predictions, "either": [label, *predictions]}
        shown = {"all": True, "mistakes": right is False, "right": right is True}[show]
        if shown and (name is None or name in found[role]):
            yield f"query {i}"


def test_filter_by_address(browser, path):
    browser.open(path, "#show=right")
    choices = itertools.product(
        ("all", "mistakes", "right"), (None, *range(4)), ("either", "true", "predicted")
    )
    numbers = set()
    for show, name, role in choices:
        chosen = "" if name is None else NAMES[name].replace("\ud800", "?")
        browser.run(
            f"location.hash = new URLSearchParams({{show: {show!r}, class: {chosen!r}, "
            f"as: {role!r}}})"
        )
        browser.settle()
        shown = [*wanted(path.stem, show, name, role)]
        assert browser.run(SHOWN) == shown, (show, name, role)
        assert browser.run("count.textContent") == f"{len(shown)} of 7 shown"
        numbers.add(len(shown))
    assert numbers >= {0, 1, 2, 3, 7}


@pytest.mark.bad_input
def test_an_address_of_nothing_is_everything(browser, path):
    browser.open(path, "#show=nothing&class=none&as=&length=3&constructor=4&%")
    assert len(browser.run(SHOWN)) == 7


def press(browser, *keys):
    for key in keys:
        code = {"Tab": 9, "Enter": 13, "ArrowRight": 39}[key]
        event = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        text = {"text": "\r"} if key == "Enter" else {}
        browser.ask("Input.dispatchKeyEvent", type="keyDown", **event, **text)
        browser.ask("Input.dispatchKeyEvent", type="keyUp", **event)
    browser.settle()


def test_keys_alone_will_do(browser, path):
    browser.open(path)
    press(browser, "Tab")
    assert browser.run("document.activeElement.getBoundingClientRect().x") > 0
    press(browser, "Enter")
    assert browser.run("document.activeElement.id") == "queries"
    browser.open(path)
    press(browser, "Tab", "Tab", "ArrowRight")
    assert browser.run("location.hash") == "#show=mistakes"
    assert browser.run(SHOWN) == [*wanted(path.stem, "mistakes", None, None)]
    press(browser, "Tab", "Tab", "Tab", "Enter")
    assert browser.run("[location.hash, document.activeElement.value]") == [
        "#show=all",
        "all",
    ]
    assert len(browser.run(SHOWN)) == 7


def test_names_are_text(browser, path):
    browser.open(path)
    assert browser.run("document.querySelectorAll('b, img').length") == 0
    assert browser.run("typeof hacked") == "undefined"
    assert browser.run("document.scripts.length") == 1
    assert browser.run("document.querySelector('h1').textContent") == "<b>x</b>"
    assert browser.run("document.querySelector('article dd').textContent") == "<b>x</b>"


def test_pictures_are_read_out(browser, path):
    browser.open(path)
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    read = {}
    for node in nodes:
        if not node["ignored"]:
            read.setdefault(node["role"]["value"], []).append(node["name"]["value"])
    assert sorted(read["image"]) == sorted(words for words, _ in browser.run(PLACES))
    assert read["article"] == [f"query {i}" for i in range(7)]
    assert read["main"] == ["Queries"]
    assert read["search"] == ["Filter the queries"]
    assert read["combobox"] == ["Class", "which is the"]
    assert read["radio"][0] == "All 7"


@pytest.mark.parametrize("width", [360, 1280])
def test_no_scrolling_sideways(browser, path, width):
    browser.resize(width)
    browser.open(path)
    assert browser.run("innerWidth") == width
    assert browser.run("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [360, 420])
def test_the_filters_of_a_phone_take_one_line(browser, path, width):
    browser.resize(width)
    browser.open(path)
    controls = "[...document.querySelectorAll('fieldset label > span, select')]"
    places = browser.run(
        f"{controls}.map(e => e.getBoundingClientRect()).map(r => [r.left, r.right, r.top])"
    )
    assert len(places) == 5
    assert max(top for *_, top in places) - min(top for *_, top in places) < 12
    assert all(a[1] <= b[0] + 1.5 for a, b in itertools.pairwise(places))
    assert all(right - left >= 24 for left, right, _ in places)
    assert places[-1][1] <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("media", ["screen", "print"])
def test_contrast(browser, path, scheme, media):
    """At least 4.5 : 1, level AA of WCAG 2."""
    browser.prefer(scheme, media)
    browser.open(path)
    contrasts = browser.run(CONTRASTS)
    assert len(contrasts) > 100
    assert [pair for pair in contrasts if pair[1] < 4.5] == []


def test_many_pictures(browser, path, monkeypatch):
    """Cards are laid out when they come into view."""
    monkeypatch.setattr(page_frame, "MANY", 0)
    many = path.with_name(f"many-{path.name}")
    many.write_text(sample_pages.both()[path.stem], encoding="utf-8")
    browser.resize(1280, 500)  # Chromium lays out one and a half windows beyond this one
    browser.open(many)
    browser.settle()
    browser.settle()
    last = "document.querySelector('article:last-child section:last-child h3')"
    visible = f"{last}.checkVisibility({{contentVisibilityAuto: true}})"
    assert not browser.run(visible)
    browser.run(f"{last}.scrollIntoView()")
    browser.settle()
    browser.settle()
    assert browser.run(visible)
    assert browser.run(f"{last}.getBoundingClientRect().bottom") < 500


def test_print(browser, path):
    """What is filtered is printed, without the filter."""
    browser.open(path, "#show=mistakes")
    browser.prefer("light", "print")
    assert browser.run("document.querySelector('form').checkVisibility()") is False
    assert browser.run(SHOWN) == [*wanted(path.stem, "mistakes", None, None)]
