# SPDX-License-Identifier: Apache-2.0
"""The documentation as a site: built, and read in a browser from the disk."""

import importlib.util
import os
import subprocess
import sys

import browser
import documents
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("mkdocs") is None, reason="`make docs` installs MkDocs"
    ),
    pytest.mark.skipif(browser.find() is None, reason="there is no Chromium"),
]
PAGES = [
    "index.html",
    "mathematics.html",
    "guides/which_head.html",
    "reference/classifiers.html",
]
SEARCH = """
(async () => {
  const field = document.querySelector("[data-md-component=search-query]");
  field.focus();
  field.value = "unknown";
  field.dispatchEvent(new Event("keyup"));
  for (let tries = 0; tries < 100; tries++) {
    await new Promise((done) => setTimeout(done, 100));
    const found = [...document.querySelectorAll(".md-search-result__link")];
    if (found.length) return found.map((link) => link.href);
  }
  return [];
})()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    outcome = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        cwd=documents.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser.start(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("page", PAGES)
def test_page_fits_and_fetches_nothing(site, tab, page, width):
    tab.resize(width)
    tab.open(site / page)
    tab.settle()
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run("[...document.images].every((image) => image.naturalWidth > 0)")
    assert tab.complaints == []
    local = ("file:", "data:", "about:", "blob:")
    assert [url for url in tab.requests if not url.startswith(local)] == []


def test_search_works_from_the_disk(site, tab):
    tab.resize(1400)
    tab.open(site / "index.html")
    found = tab.run(SEARCH)
    assert any("guides/unknown.html" in url for url in found)


def test_formulae_and_signatures_are_there(site, tab):
    tab.open(site / "mathematics.html")
    assert tab.run("document.querySelectorAll('math').length") > 40
    assert "$" not in tab.run("document.querySelector('article').innerText")
    tab.open(site / "reference/classifiers.html")
    text = tab.run("document.querySelector('article').innerText")
    assert "s_c = max_k <x, p_ck>" in text  # not taken for a tag
    assert "num_sub_centroids=4" in text
