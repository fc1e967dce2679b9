"""What the contract runs over: every registered method, by kind and unit."""

from __future__ import annotations

import pytest

from prunus.core import registry
from prunus.core.registry import Method


def every(kind: str, *units: str, **facts: object) -> pytest.MarkDecorator:
    """Run a check once for each method of a kind (over these units; all by default) with these facts; None for none."""
    found = [m for m in registry.methods(kind=kind) if not units or m.unit in units]
    found = [m for m in found if all(m.facts.get(name) == value for name, value in facts.items())]
    return pytest.mark.parametrize("method", [pytest.param(m, id=m.id) for m in found])


def draws(method: Method) -> bool:
    """Whether it takes `rng`: then equal inputs may give unequal scores."""
    import inspect

    return "rng" in inspect.signature(method.load()).parameters
