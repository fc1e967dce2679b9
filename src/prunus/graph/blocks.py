"""Repeated blocks by the names of parameters: `model.layers.3` of `model.layers.3.mlp.up_proj.weight`."""

from __future__ import annotations

from collections.abc import Mapping

from prunus.core.prunable import Group


def block_of(name: str, *, outermost: bool = False) -> str:
    """The numbered module that holds a parameter, the innermost by default; "" where none does."""
    parts = name.split(".")
    numbered = [place for place, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: (numbered[0] if outermost else numbered[-1]) + 1]) if numbered else ""


def blocks_of(group: Group, *, outermost: bool = False) -> set[str]:
    """Every block that a group reaches into; "" for parameters outside of all."""
    return {block_of(slot.parameter, outermost=outermost) for slot in group.slots}


def inside_one(groups: Mapping[str, Group]) -> dict[str, Group]:
    """The groups that lie in one block, head dimensions left out.

    In a ResNet these are the channels between the convolutions of a block, in a transformer the neurons and heads.
    """
    return {name: one for name, one in groups.items() if not name.endswith(":dim") and len(blocks_of(one)) == 1}
