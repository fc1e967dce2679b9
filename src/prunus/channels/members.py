"""Sums over the members of a group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from prunus.core.errors import BadInput


def matrices(group: Any, members: str) -> tuple[Any, ...]:
    """The members that are matrices: writers, readers, or all of them.

    Raises:
        BadInput: the group has none of that kind.
    """
    kinds = {"all": ("writers", "readers"), "writers": ("writers",), "readers": ("readers",)}[members]
    found = tuple(member for kind in kinds for member in getattr(group, kind))
    if not found:
        raise BadInput(f"group {group.name} has no {' or '.join(kinds)}: choose other members")
    return found


def summed(group: Any, members: str, value: Callable[[Any], Tensor]) -> Tensor:
    """`value(member) [units, per_unit, other]` summed over everything but units, and over members; float64 `[size]`."""
    total = torch.zeros(group.size, dtype=torch.float64)
    for member in matrices(group, members):
        total += value(member).sum((1, 2), dtype=torch.float64).cpu()
    return total
