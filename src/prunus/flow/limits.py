"""`max_ram`: a method that would take more is refused before it starts, or told to work in smaller blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from prunus.core.chain import Chain
from prunus.core.errors import ResourceError
from prunus.core.memory import evaluate
from prunus.core.registry import Method

PLAIN = "40 * n"
"""Of methods that hold a few numbers for each unit."""
CHUNKED = "40 * n + 16 * min(n, 65536) * (c + d)"
"""Of criteria that are called on one chunk of rows after the other."""

CHEAPER = {
    "selector": "select inside classes or clusters (allocate='uniform', over='clusters'), or drop near duplicates and easy "
    "rows by a cheaper selector first (select='random,...')",
    "criterion": "or score parts of the rows, or by a criterion that reads them in chunks",
}


def within_ram(
    method: Method, signals: Any, rows: int, count: int, options: Mapping[str, Any], max_ram: int
) -> dict[str, Any]:
    """The options, with `max_ram` for selectors that can be told; refuses methods that need more.

    Args:
        method: a selector, several in turn, or a criterion.
        signals: what it reads, for the width of embedding and probs.
        rows: most units it sees at once.
        count: units it keeps of them.
        options: the method's own.
        max_ram: bytes, beyond the signals themselves.

    Raises:
        ResourceError: the method's own formula says more; names it and cheaper ways.
    """
    needs = {one.id: _need(one, signals, rows, count, options) for one in _stages(method)}
    stage = max(_stages(method), key=lambda one: needs[one.id])
    need = needs[stage.id]
    if need > max_ram:
        raise ResourceError(
            f"{stage.id} over {rows:,} rows takes about {need / 1e9:.2f} GB ({formula(stage)}), and max_ram is "
            f"{max_ram / 1e9:.2f} GB: raise it, {CHEAPER[method.kind]}"
        )
    # What is left over goes to selectors that fit their blocks to it.
    return {**options, "max_ram": max_ram - need} if "max_ram" in method.keywords else dict(options)


def _stages(method: Method) -> tuple[Method, ...]:
    return method.stages if isinstance(method, Chain) else (method,)


def formula(method: Method) -> str:
    """Bytes over n units of d features and c classes, m of them kept, and the method's options."""
    plain = CHUNKED if method.kind == "criterion" and not method.facts.get("whole") else PLAIN
    return str(method.facts.get("memory", plain))


def _need(method: Method, given: Any, rows: int, count: int, options: Mapping[str, Any]) -> int:
    """Bytes by the method's formula; methods without one hold a few numbers for each row."""
    sizes: dict[str, Any] = {option.name: option.default for option in method.options}
    sizes |= {name: value for name, value in options.items() if name in sizes}
    numbers = {name: value for name, value in sizes.items() if isinstance(value, int | float) or value is None}
    signals = {"d": _width(given, "embedding"), "c": _width(given, "probs")}
    return evaluate(formula(method), **numbers | signals | {"n": rows, "m": count})


def _width(signals: Any, name: str) -> int:
    if name not in getattr(signals, "names", ()):
        return 0
    return int(np.prod(signals.shape(name)[1:]))
