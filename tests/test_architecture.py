"""The shape of the source: rooms that import only downwards, no circles, no name twice, no file too long.

As a program it prints how many lines there are in each room.
"""

import ast
from collections import Counter
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "metareplay"
LONGEST = 450
LONG = {"learners.kernels"}
"""Numba's cache does not notice a change in another file: compiled code is in one with all that it calls."""

LEVELS = (
    {"ground"},
    {"data", "networks"},
    {"streams"},
    {"learners"},
    {"methods"},
    {"runs"},
    {"suites", "results", "estimators", "trackers"},
    {"studies"},
    {"cli"},
    {"original"},
    {"top"},
)
"""The rooms; each may import what stands above it here, and within itself."""
AT_THE_ROOT = {"compiled": "ground", "errors": "ground", "files": "ground", "settings": "ground", "user_code": "ground"}

MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}


def room(module):
    name = module.split(".")[0]
    return AT_THE_ROOT.get(name, name if (SOURCE / name).is_dir() else "top")


@cache
def imports(module):
    """The project's modules that a module imports anywhere, for types alone and within functions too."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    ours = {name.removeprefix("metareplay.") for name in found if name.startswith("metareplay.")}
    # `from room import name`: where the name is a module, that is imported and not all that its room's __init__ has.
    return frozenset(
        name
        for name in ours & MODULES.keys()
        if not any(other.startswith(f"{name}.") for other in ours & MODULES.keys())
    ) - {module}


def level(module):
    return next(number for number, rooms in enumerate(LEVELS) if room(module) in rooms)


def test_a_module_imports_only_from_its_own_room_and_those_below():
    there = [(module, name) for module in MODULES for name in imports(module) if room(name) != room(module)]
    assert [(module, name) for module, name in there if level(name) >= level(module)] == []


def test_no_modules_import_each_other_in_a_circle():
    try:
        TopologicalSorter({module: imports(module) for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_no_name_of_a_class_is_there_twice():
    names = Counter(
        node.name
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_a_file_can_be_read_at_one_sitting():
    assert [module for module in MODULES.keys() - LONG if lines(MODULES[module]) > LONGEST] == []


def lines(path):
    return len(path.read_text().splitlines())


def main():
    """Print the table of rooms."""
    rooms = Counter()
    for module, path in MODULES.items():
        rooms[room(module)] += lines(path)
    table = [(name, count) for name, count in rooms.most_common()]
    table.append(("all of src, Python", sum(rooms.values())))
    web = [path for path in SOURCE.rglob("*") if path.suffix in {".html", ".js", ".css"}]
    table.append(("web", sum(map(lines, web))))
    tests = [path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    table.append(("tests and benchmarks", sum(map(lines, tests))))
    for name, count in table:
        print(f"{name:<22}{count:>7}")


if __name__ == "__main__":
    main()
