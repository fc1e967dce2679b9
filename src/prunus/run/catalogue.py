"""What the graph must know of a method before it runs: its kind, the signals it needs, whether it draws at random."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from prunus.core import registry
from prunus.core.chain import find_selector
from prunus.core.registry import Method

REMOVES = ("criterion", "selector", "solver", "search", "dynamic", "schedule")
KIND_OF = {"select": "selector", "allocate": "allocator", "compensate": "compensator"}


@dataclass(frozen=True)
class Facts:
    """Facts of one method.

    Attributes:
        kind: criterion, selector, solver, search, dynamic or schedule; selector, allocator, compensator.
        needs: names of signals.
        random: whether it takes a generator, so that its result depends on the seed.
        defaults: what it is combined with unless the recipe says otherwise: select, compensate.
        val: names of signals of validation rows that it reads.
        weighs: whether it gives kept rows loss weights.
    """

    kind: str
    needs: tuple[str, ...] = ()
    random: bool = False
    defaults: Mapping[str, str] = field(default_factory=dict[str, str])
    val: tuple[str, ...] = ()
    weighs: bool = False


MethodFacts = Callable[[str, str], Facts]


def method_facts(unit: str, name: str) -> Facts:
    """From the catalogue; reads source text and imports nothing.

    Args:
        unit: a unit, or select, allocate, compensate.
        name: id or bare name.

    Raises:
        UnknownName: no such method; names the nearest.
    """
    if unit == "select":
        method = find_selector(name)
    elif unit in KIND_OF:
        method = registry.find(name, kind=KIND_OF[unit])
    else:
        method = registry.find(name, unit=unit, kind=REMOVES)
    defaults = {part: str(method.facts[part]) for part in ("select", "compensate") if method.facts.get(part)}
    facts = method.facts
    return Facts(
        method.kind,
        method.needs,
        takes(method, "rng"),
        defaults,
        tuple(facts.get("val", ())),
        bool(facts.get("weighs")),
    )


def takes(method: Method, name: str) -> bool:
    """Whether the method's function, or a method of its class, has a parameter of that name."""
    for node in ast.parse(method.path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == method.attribute:
            parts = [part for part in ast.walk(node) if isinstance(part, ast.FunctionDef)]
            return any(a.arg == name for p in parts for a in (*p.args.posonlyargs, *p.args.args, *p.args.kwonlyargs))
    return False
