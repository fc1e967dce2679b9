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


def makers(group: Any) -> tuple[Any, ...]:
    """The writers; of a group that no matrix writes, the readers."""
    return matrices(group, "writers" if group.writers else "readers")


def learnt(group: Any, *signals: str) -> list[Any]:
    """Every member, vectors included, of which all these gradients were measured.

    Raises:
        BadInput: there is none.
    """
    members = (*group.writers, *group.readers, *group.vectors)
    found = [m for m in members if all(getattr(m, name, None) is not None for name in signals)]
    if not found:
        raise BadInput(f"group {group.name} has no {' and '.join(signals)}: collect that with labelled data first")
    return found


def measured(group: Any, signal: str) -> list[tuple[Any, Tensor]]:
    """Every writer of which `signal` was measured, with its values `[units, per_unit]`.

    Raises:
        BadInput: no writer has it.
    """
    found = [(writer, writer.outputs[signal].cpu()) for writer in group.writers if signal in writer.outputs]
    if not found:
        raise BadInput(
            f"nothing was measured at the outputs of group {group.name}: collect {signal}, or score its weights"
        )
    return found


def read_signal(group: Any, signal: str) -> list[Tensor]:
    """`signal` of the inputs of every reader that has it, `[units, inputs, ...]`.

    Raises:
        BadInput: no reader has it.
    """
    found = [getattr(reader, signal, None) for reader in matrices(group, "readers")]
    values = [value.cpu() for value in found if value is not None]
    if not values:
        raise BadInput(f"no reader of group {group.name} has {signal}: collect that signal first")
    return values


def summed(group: Any, members: str, value: Callable[[Any], Tensor]) -> Tensor:
    """`value(member) [units, per_unit, other]` summed over everything but units, and over members; float64 `[size]`."""
    total = torch.zeros(group.size, dtype=torch.float64)
    for member in matrices(group, members):
        total += value(member).sum((1, 2), dtype=torch.float64).cpu()
    return total
