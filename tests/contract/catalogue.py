"""What the contract runs over: every registered method, by kind and unit."""

from __future__ import annotations

import pytest

from prunus.core import registry
from prunus.core.registry import Method


def every(kind: str, *units: str) -> pytest.MarkDecorator:
    """Run a check once for each method of a kind (over these units; all by default)."""
    found = [m for m in registry.methods(kind=kind) if not units or m.unit in units]
    return pytest.mark.parametrize("method", [pytest.param(m, id=m.id) for m in found])


def draws(method: Method) -> bool:
    """Whether it takes `rng`: then equal inputs may give unequal scores."""
    import inspect

    return "rng" in inspect.signature(method.load()).parameters
