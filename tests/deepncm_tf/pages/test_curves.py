# SPDX-License-Identifier: Apache-2.0
"""Curves are drawn, each in its colour."""

import sys

import numpy as np
from PIL import Image

from deepncm_tf.pages import curves


def count(pixels, color):
    wanted = [int(color[place : place + 2], 16) for place in (1, 3, 5)]
    return (np.abs(pixels.astype(int) - wanted).max(axis=-1) < 3).sum()


def test_each_curve_has_its_colour(tmp_path):
    path = tmp_path / "curves.png"
    x = np.array([10, 20, 30])
    lines = {"one": (x / 2, np.ones(3)), "two": (x / 3, 0.0)}
    curves.write_curves(path, x, lines, "Classes", "Accuracy")
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert pixels.shape == (600, 960, 3)
    assert [count(pixels, color) > 500 for color in curves.COLORS[:3]] == [
        True,
        True,
        False,
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]


def test_many_points_and_chance(tmp_path):
    x = np.linspace(0, 1, 201)
    curves.write_curves(tmp_path / "a.png", x, {"one": (x**0.5, 0)}, "x", "y")
    curves.write_curves(tmp_path / "b.png", x, {"one": (x**0.5, 0)}, "x", "y", chance=x)
    paths = (tmp_path / "a.png", tmp_path / "b.png")
    without, with_chance = (np.asarray(Image.open(p).convert("RGB")) for p in paths)
    assert count(with_chance, "#999999") > count(without, "#999999") + 200
    assert count(without, curves.COLORS[0]) < 5000  # a line: no marks on it


def test_without_matplotlib(monkeypatch):
    assert curves.can_draw()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not curves.can_draw()
