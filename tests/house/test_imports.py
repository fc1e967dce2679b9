"""Imports go down only, method rooms stand alone, and importing prunus stays cheap."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import pytest

from house.source import LEVEL, METHOD_ROOMS, files, imported, room, runs_at_import, tree, where

HEAVY = ("torch", "numpy", "scipy", "transformers", "matplotlib", "pandas", "polars", "pyarrow", "sklearn")


def edges() -> list[tuple[str, str, str]]:
    """(room, imported room, where) for every import of one room by another."""
    found = []
    for path in files():
        for name, line in imported(path):
            parts = name.split(".")
            if parts[0] != "prunus" or len(parts) < 2 or parts[1] == room(path):
                continue
            found.append((room(path), parts[1], where(path, line)))
    return found


def test_every_room_has_a_level():
    rooms = {room(path) for path in files()} - {"__init__"}
    assert rooms <= set(LEVEL), f"give these a level in tests/house/source.py: {sorted(rooms - set(LEVEL))}"


def test_imports_go_down_only():
    upward = [
        f"{place} imports {target}"
        for source, target, place in edges()
        if source in LEVEL and target in LEVEL and LEVEL[target] > LEVEL[source]
    ]
    assert not upward, upward


def test_nothing_inside_imports_the_public_surface():
    inside = [
        f"{place} imports prunus.{target}"
        for source, target, place in edges()
        if source not in ("__init__", "cli", "demo", "__main__") and target not in LEVEL and target != "__version__"
    ]
    assert not inside, f"import the room that defines it instead: {inside}"


def test_method_rooms_do_not_import_each_other():
    crossing = [
        f"{place} imports {target}"
        for source, target, place in edges()
        if source in METHOD_ROOMS and target in METHOD_ROOMS
    ]
    assert not crossing, f"what two rooms share belongs one level down: {crossing}"


def test_rooms_of_one_level_have_no_cycle():
    pairs = {(a, b) for a, b, _ in edges() if LEVEL.get(a) == LEVEL.get(b)}
    assert not {(a, b) for a, b in pairs if (b, a) in pairs}


@pytest.mark.parametrize("path", [p for p in files() if room(p) in ("core", "__init__", "cli")], ids=where)
def test_core_and_command_line_import_nothing_heavy(path):
    for node in runs_at_import(tree(path)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        heavy = [name for name in names if name.split(".")[0] in HEAVY]
        assert not heavy, f"{where(path, node.lineno)} imports {heavy} when it is imported"


@pytest.mark.parametrize("statement", ["import prunus", "import prunus.cli"])
def test_import_leaves_torch_and_numpy_out(statement):
    """What is imported, not how long it takes: the time is benchmarks/imports.py's business."""
    code = f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & set(HEAVY)
