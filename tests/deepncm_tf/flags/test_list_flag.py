# SPDX-License-Identifier: Apache-2.0
"""Flags that are lists: given once, several times, and as paths with commas."""

import copy

import pytest

from deepncm_tf import discover, evaluate, explain, gallery


def parse(module, *arguments):
    flags = copy.deepcopy(module.FLAGS)
    assert flags(["program", *arguments]) == ["program"]
    return flags


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (gallery, "model_dirs"),
        (explain, "images"),
        (evaluate, "k"),
        (evaluate, "temperature"),
        (discover, "k"),
    ],
)
def test_a_list_that_is_given_several_times_adds_up(module, name):
    default = parse(module)[name].value
    found = parse(module, f"--{name}=1,2", f"--{name}=3", f"--{name}", "4, 5")[name].value
    assert found == ["1", "2", "3", "4", "5"]
    assert parse(module)[name].value == default
    assert f"--{name}=1,2" in parse(module, f"--{name}=1", f"--{name}=2")[name].serialize()


@pytest.mark.parametrize(("module", "name"), [(gallery, "model_dirs"), (explain, "images")])
def test_a_comma_in_a_path(module, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b.png").touch()
    found = parse(module, f"--{name}=a,b.png", f"--{name}=c.png,d.png")[name].value
    assert found == ["a,b.png", "c.png", "d.png"]
    (tmp_path / "a,b.png").unlink()
    assert parse(module, f"--{name}=a,b.png")[name].value == ["a", "b.png"]
    assert parse(module, f'--{name}="a,b.png",c')[name].value == ["a,b.png", "c"]


def test_a_scalar_that_is_given_twice_is_the_last():
    assert parse(gallery, "--num_queries=3", "--num_queries=4").num_queries == 4
