"""`max_ram`: a selection that would take more is refused before it starts, or told to work in smaller blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from prunus.core.chain import Chain
from prunus.core.errors import ResourceError
from prunus.core.memory import evaluate
from prunus.core.registry import Method
from prunus.core.score import GroupScore

PLAIN = "40 * n"
"""Of selectors that hold a few numbers for each unit."""


def within_ram(
    method: Method, group: GroupScore, rows: int, count: int, options: Mapping[str, Any], max_ram: int
) -> dict[str, Any]:
    """The options, with `max_ram` for selectors that can be told; refuses those that need more.

    Args:
        method: a selector, or several in turn.
        group: what it selects from, for the width of embedding and probs.
        rows: most units it sees at once.
        count: units it keeps of them.
        options: the selector's own.
        max_ram: bytes, beyond the signals themselves.

    Raises:
        ResourceError: the method's own formula says more; names it and cheaper ways.
    """
    needs = {one.id: _need(one, group, rows, count, options) for one in _stages(method)}
    stage = max(_stages(method), key=lambda one: needs[one.id])
    need = needs[stage.id]
    if need > max_ram:
        raise ResourceError(
            f"{stage.id} over {rows:,} rows takes about {need / 1e9:.2f} GB ({formula(stage)}), and max_ram is "
            f"{max_ram / 1e9:.2f} GB: raise it, select inside classes or clusters (allocate='uniform', over='clusters'), "
            "or drop near duplicates and easy rows by a cheaper selector first (select='random,...')"
        )
    # What is left over goes to selectors that fit their blocks to it.
    return {**options, "max_ram": max_ram - need} if "max_ram" in method.keywords else dict(options)


def _stages(method: Method) -> tuple[Method, ...]:
    return method.stages if isinstance(method, Chain) else (method,)


def formula(method: Method) -> str:
    """Bytes over n units of d features and c classes, m of them kept, and the method's options."""
    return str(method.facts.get("memory", PLAIN))


def _need(method: Method, group: GroupScore, rows: int, count: int, options: Mapping[str, Any]) -> int:
    """Bytes by the method's formula; selectors without one hold a few numbers for each row."""
    sizes: dict[str, Any] = {option.name: option.default for option in method.options}
    sizes |= {name: value for name, value in options.items() if name in sizes}
    numbers = {name: value for name, value in sizes.items() if isinstance(value, int | float) or value is None}
    signals = {"d": _width(group, "embedding"), "c": _width(group, "probs")}
    return evaluate(formula(method), **numbers | signals | {"n": rows, "m": count})


def _width(group: GroupScore, name: str) -> int:
    if name not in getattr(group.signals, "names", ()):
        return 0
    return int(np.prod(group.signals.shape(name)[1:]))
