# SPDX-License-Identifier: Apache-2.0
"""Imports run one way, from room to room; those inside functions too."""

import ast
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "deepncm_tf"
# What each room may import.
ROOMS = {
    "utils": "",
    "distribution": "utils",
    "numerics": "utils distribution",
    "classifiers": "utils distribution numerics",
    "estimators": "utils numerics classifiers",
    "evaluation": "utils numerics classifiers",
    "pages": "utils",
    "models": "utils distribution numerics classifiers evaluation pages",
    "data": "utils distribution",
    "backbones": "utils",
    "flags": "utils data backbones",
    "runs": "utils distribution numerics classifiers evaluation models data backbones "
    "flags pages",
    "teaching": "utils classifiers evaluation models data flags pages runs",
    "doors": "utils data flags models evaluation pages runs teaching",
    "package": "utils numerics models backbones",
}
# Modules outside the rooms' folders.
OUTSIDE = {
    "doors": "cifar_main classify continual discover evaluate explain features few_shot "
    "gallery imagenet_main segmentation_main teach",
    "package": "__init__",
}
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
}
ROOM_OF = {name: name.split(".")[0] for name in FILES if name.split(".")[0] in ROOMS}
ROOM_OF |= {module: room for room, text in OUTSIDE.items() for module in text.split()}


def imports(path, outside_functions=False):
    """Names of all modules that a file imports, with what it takes from them."""
    tree = ast.parse(path.read_text())
    for node in tree.body if outside_functions else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules_of_ours(path):
    """Modules of the package that a file imports, as in `FILES`."""
    for name in imports(path):
        package, *parts = name.split(".")
        if package != "deepncm_tf" or not parts:
            continue
        names = (".".join(parts), ".".join([*parts, "__init__"]), ".".join(parts[:-1]))
        names += (".".join([*parts[:-1], "__init__"]),)
        yield next(name for name in names if name in FILES)


def test_every_module_has_its_room():
    assert set(ROOM_OF) == set(FILES)


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_run_one_way(module):
    room = ROOM_OF[module]
    allowed = {room, *ROOMS[room].split()}
    if module != "__init__":
        allowed.add("package")  # `from deepncm_tf import DeepNCM`
    for imported in modules_of_ours(FILES[module]):
        assert ROOM_OF[imported] in allowed, f"{module} ({room}) imports {imported}"


def test_the_rooms_have_an_order():
    """Each room imports rooms above it alone, so that there is no circle."""
    above = set()
    for room, allowed in ROOMS.items():
        assert set(allowed.split()) <= above, room
        above.add(room)


@pytest.mark.parametrize(
    "module", sorted(m for m, r in ROOM_OF.items() if r in ("numerics", "classifiers"))
)
def test_classifiers_and_their_numerics_import_only_keras(module):
    ours = {"deepncm_tf", "keras", *sys.stdlib_module_names}
    if module in ("numerics.array_sums", "numerics.bank"):
        ours.add("numpy")  # of what is in memory, and no device holds whole
    found = {name.split(".")[0] for name in imports(FILES[module], outside_functions=True)}
    assert found <= ours


def test_the_picture_in_contributing_is_true():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    block = text.split("## The rooms of the package")[1].split("```")[1]
    rows = [line.partition("<-") for line in block.strip().splitlines()]
    picture = {row.split()[0]: set(arrows.split()) for row, _, arrows in rows}
    rooms = {room: set(text.split()) for room, text in ROOMS.items() if room != "package"}
    assert picture == rooms


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments").glob("*.py")), ids=lambda path: path.stem
)
def test_experiments_use_flags_runs_and_utils(path):
    rooms = {ROOM_OF[module] for module in modules_of_ours(path)}
    assert rooms <= {"flags", "runs", "utils"}


@pytest.mark.parametrize("room", ["utils", "flags", "pages"])
def test_rooms_without_keras(room):
    modules = [module for module, its_room in ROOM_OF.items() if its_room == room]
    assert modules
    for module in modules:
        found = {name.split(".")[0] for name in imports(FILES[module], True)}
        assert not found & {"keras", "tensorflow"}, module


def test_the_backbones_know_nothing_of_the_package():
    for path in (ROOT / "official_resnet").glob("*.py"):
        assert not any(name.startswith("deepncm_tf") for name in imports(path)), path
