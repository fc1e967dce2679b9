"""The source tree as syntax trees, read once for all house tests. Nothing of prunus is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "prunus"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("core",),
    ("maths", "train"),
    ("signals", "allocate", "schedule", "graph"),
    ("select", "compensate"),
    ("rows", "pairs", "tables", "weights", "channels", "layers", "ranks", "experts", "tokens"),
    ("prunables",),
    ("sources", "federated", "recovery", "measure", "report"),
    ("flow",),
    ("recipe", "run", "stages", "demo", "advise"),
    ("cli", "__main__"),
)
METHOD_ROOMS = LAYERS[4]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


@cache
def files() -> tuple[Path, ...]:
    """Every Python file of the package, in a fixed order."""
    return tuple(sorted(PACKAGE.rglob("*.py")))


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of one file."""
    return ast.parse(path.read_text("utf-8"), filename=str(path))


def where(path: Path, line: int | None = None) -> str:
    """`rows/el2n.py:12`, for messages."""
    name = path.relative_to(PACKAGE).as_posix()
    return f"{name}:{line}" if line else name


def room(path: Path) -> str:
    """The room of a file: its folder, or its own name at the top level."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of every import, wherever it stands; `from a import b` gives both `a` and `a.b`."""
    package = ("prunus", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


def runs_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Statements executed when the module is imported: not function bodies, not TYPE_CHECKING blocks."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from runs_at_import(child)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a file, nested ones included."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
