"""Which file provides which signal: read from the folder with `ast`, so that listing imports nothing."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from prunus.core.errors import UnknownName

LITERALS = ("PROVIDES", "LEVEL", "VERSION", "MEMORY")
LABELLED = "LABELLED"  # names among PROVIDES that are made with labels; none where a file does not say


@dataclass(frozen=True)
class Provider:
    """A file of this room that measures something.

    Attributes:
        module: dotted name.
        provides: names of the signals.
        level: "rows" (a pass, per row), "modules" (a pass, per module), "training" (recorded while training) or "folds"
            (a training for each fold).
        version: raised when the values change; part of the store's key.
        memory: formula in bytes, for `--dry-run`.
        doc: module docstring.
        labelled: names that are made with labels.
    """

    module: str
    provides: tuple[str, ...]
    level: str
    version: int
    memory: str
    doc: str
    labelled: tuple[str, ...] = ()

    def load(self) -> Any:
        """The accumulator class of the file."""
        return importlib.import_module(self.module).Accumulate


@cache
def providers() -> dict[str, Provider]:
    """Signal name -> the file that provides it."""
    found: dict[str, Provider] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        literals = {
            target.id: ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name) and target.id in (*LITERALS, LABELLED)
        }
        if set(literals) >= set(LITERALS):
            facts = Provider(
                f"prunus.signals.{path.stem}", tuple(literals["PROVIDES"]), literals["LEVEL"], literals["VERSION"],
                literals["MEMORY"], ast.get_docstring(tree) or "", tuple(literals.get(LABELLED, ())),
            )  # fmt: skip
            found |= dict.fromkeys(facts.provides, facts)
    return found


def provider(name: str) -> Provider:
    """The file that provides a signal.

    Raises:
        UnknownName: none does.
    """
    known = providers()
    if name not in known:
        raise UnknownName("signal", name, known)
    return known[name]


def split(need: Iterable[str]) -> dict[str, frozenset[str]]:
    """Wanted names by the module that provides them, in a fixed order."""
    wanted: dict[str, set[str]] = {}
    for name in sorted(set(need)):
        wanted.setdefault(provider(name).module, set()).add(name)
    return {module: frozenset(names) for module, names in wanted.items()}
