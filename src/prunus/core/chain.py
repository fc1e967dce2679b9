"""Selectors by name, alone or in turn: `semdedup,ccs` drops near duplicates and lets ccs choose among the rest."""

from __future__ import annotations

import functools
import importlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prunus.core import registry
from prunus.core.errors import BadInput
from prunus.core.registry import Method, Option

SELECT = Path(__file__).parents[1] / "select"
SHARE = "Share of the rows it is given that stays behind it; None = every selector of the chain keeps the same share."


@dataclass(frozen=True)
class Chain(Method):
    """Selectors in turn, as one method.

    Attributes:
        stages: the selectors, first to last.
    """

    stages: tuple[Method, ...] = ()

    def load(self) -> Callable[..., Any]:
        """Import all of them (and check their extras first)."""
        loaded = tuple((stage, stage.load()) for stage in self.stages)
        return functools.partial(getattr(importlib.import_module(self.module), self.attribute), loaded)


def find_selector(name: str | Sequence[str]) -> Method:
    """A selector by name, or several in turn: a list of names, or one text with commas.

    Options of a chain go to every selector that has one of that name and type; `NAME_option` means one selector, and
    `NAME_share` says how much it leaves to the next.

    Raises:
        UnknownName: no such selector; names the nearest.
        BadInput: an empty name, or a selector that stands in a chain twice.
    """
    names = [part.strip() for part in (name.split(",") if isinstance(name, str) else name)]
    if not names or not all(names):
        raise BadInput(f"a chain of selectors is written 'semdedup,ccs', not {name!r}")
    stages = tuple(registry.find(one, kind="selector") for one in names)
    return stages[0] if len(stages) == 1 else _chain(stages)


def _chain(stages: tuple[Method, ...]) -> Chain:
    ids = [stage.name for stage in stages]
    if twice := sorted({one for one in ids if ids.count(one) > 1}):
        raise BadInput(f"a chain names each selector once, and {twice[0]} is there {ids.count(twice[0])} times")
    units = sorted({stage.unit for stage in stages} - {""})
    if len(units) > 1:
        raise BadInput(f"the selectors of {','.join(ids)} select different units: {' and '.join(units)}")
    facts = {
        **{
            fact: tuple(dict.fromkeys(name for stage in stages for name in stage.facts.get(fact, ())))
            for fact in ("needs", "extras", "val")
        },
        "weighs": bool(stages[-1].facts.get("weighs")),
    }
    options = _options(stages)
    keywords = tuple(dict.fromkeys([option.name for option in options] + [k for s in stages for k in _keywords(s)]))
    return Chain(
        f"select/{','.join(ids)}", ",".join(ids), "selector", "select", units[0] if units else "", facts, options,
        "\n".join(stage.paper for stage in stages), "prunus.select.chain", "in_turn", SELECT / "chain.py", keywords, stages,
    )  # fmt: skip


def _keywords(stage: Method) -> list[str]:
    return [*stage.keywords, *(f"{stage.name}_{keyword}" for keyword in stage.keywords)]


def _options(stages: tuple[Method, ...]) -> tuple[Option, ...]:
    """Those of one meaning under their own names, all under prefixed ones, and the shares."""
    kinds = {(option.name, option.type) for stage in stages for option in stage.options}
    meanings = Counter(name for name, _ in kinds)
    shared = {option.name: option for stage in stages for option in stage.options if meanings[option.name] == 1}
    own = [replace(option, name=f"{stage.name}_{option.name}") for stage in stages for option in stage.options]
    shares = [Option(f"{stage.name}_share", "float | None", None, SHARE) for stage in stages[:-1]]
    return (*shared.values(), *own, *shares)
