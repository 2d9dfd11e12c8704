# SPDX-License-Identifier: Apache-2.0
"""The documentation is executed: its guides, commands, links, pictures, reference."""

import importlib
import inspect
import re
import runpy

import documents
import pytest
from PIL import Image

import deepncm_tf
from deepncm_tf import classifiers

# Those that take longer than some three seconds.
SLOW = {"devices", "first_model", "pixels", "unknown", "why"}
TEXTS = {path.relative_to(documents.DOCS).as_posix(): path for path in documents.PAGES}
WITH_CODE = [
    pytest.param(name, marks=pytest.mark.slow if path.stem in SLOW else [])
    for name, path in TEXTS.items()
    if documents.code_in(path.read_text())
]


@pytest.mark.parametrize("name", WITH_CODE)
@pytest.mark.filterwarnings("ignore:.*zero standard deviation:UserWarning")
def test_guide(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = documents.execute(TEXTS[name].read_text(), name)
    assert said
    for printed, text in said:
        documents.assert_alike(printed, text)
    for path in tmp_path.glob("*.png"):
        assert_same_size(path, documents.DOCS / "pictures" / path.name)


def assert_same_size(made, kept):
    """Asserts that a picture shows something, in the size of that in the documentation."""
    with Image.open(made) as made, Image.open(kept) as kept:
        assert made.size == kept.size
        assert len(set(made.convert("L").tobytes())) > 20


@pytest.mark.parametrize(
    ("printed", "said"),
    [("96.1 %", "92 %"), ("a 3", "a 4"), ("good", "bad"), ("1.0", "")],
)
def test_what_differs_is_told(printed, said):
    documents.assert_alike("93.1 % of 360", "93.3 % of 360")
    with pytest.raises(AssertionError):
        documents.assert_alike(printed, said)


def test_every_guide_has_code():
    guides = {name for name in TEXTS if name.startswith("guides/")}
    assert len(guides) >= 13
    assert guides | {"index.md"} == {param.values[0] for param in WITH_CODE}


def test_commands_parse():
    """Every command has flags that exist, with values that are right."""
    modules = set()
    for path in documents.PAGES:
        for module, command in documents.commands(path.read_text()):
            modules.add(module)
            documents.check_command(module, command)
    assert modules >= {"cifar_main", "evaluate", "explain", "gallery", "few_shot"}


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name):
    path = TEXTS[name]
    for link in documents.links(path.read_text()):
        if link.startswith("https://"):
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        assert target.is_file(), link
        if anchor:
            assert anchor in documents.anchors(target.read_text()), link


def test_navigation_has_every_page():
    configuration = (documents.ROOT / "mkdocs.yml").read_text()
    navigation = configuration.split("\nnav:\n")[1]
    listed = re.findall(r"([\w/]+\.md)$", navigation, flags=re.MULTILINE)
    assert sorted(listed) == sorted(TEXTS)


def test_every_picture_is_shown_and_made():
    text = "\n".join(path.read_text() for path in documents.PAGES)
    shown = set(re.findall(r"pictures/(\w+)\.png", text))
    program = (documents.DOCS / "make_pictures.py").read_text()
    assert shown == {p.stem for p in (documents.DOCS / "pictures").glob("*.png")}
    assert shown == set(re.findall(r"def draw_(\w+)", program))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["means", "scores"])  # the others guides write themselves
def test_picture_is_made(name, tmp_path):
    program = runpy.run_path(str(documents.DOCS / "make_pictures.py"))
    program[f"draw_{name}"](tmp_path / f"{name}.png")
    assert_same_size(tmp_path / f"{name}.png", documents.DOCS / "pictures" / f"{name}.png")


def test_reference_has_every_public_name():
    described = documents.described()
    assert len(described) == len(set(described))
    for name in described:  # each exists
        module, _, attribute = name.rpartition(".")
        if not hasattr(importlib.import_module(module), attribute):
            importlib.import_module(name)
    last = {name.rpartition(".")[2] for name in described}
    assert last >= set(classifiers.__all__)
    for name in deepncm_tf.__all__:
        thing = getattr(deepncm_tf, name)
        if inspect.isclass(thing):
            assert any(one.endswith(f".{name}") for one in described), name
        else:
            assert any(one.startswith(f"{thing.__name__}.") for one in described), name


def test_table_of_heads_has_every_head():
    text = (documents.DOCS / "guides" / "which_head.md").read_text()
    for name, head in classifiers.NAMES.items():
        assert f"`{name}`" in text
        assert f"`{head.__name__}`" in text
