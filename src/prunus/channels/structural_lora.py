"""Structured pruning while adapters train: the groups that may lose units, and adapters with gates on all their matrices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunus.allocate.by_cost import Level, by_cost
from prunus.core.budget import Budget
from prunus.core.edits import SetWeight
from prunus.core.errors import BadInput
from prunus.core.prunable import Group, Slot
from prunus.core.rng import Rng
from prunus.graph.blocks import blocks_of, inside_one
from prunus.signals.scan import is_matrix, transposed
from prunus.train.adapters import Adapter, attach, merge

Groups = dict[str, Group]


def inner_groups(prunable: Any) -> Groups:
    """Heads and neurons: groups whose parameters lie in one repeated block. Of a model without blocks: every group."""
    groups = {group.name: group for group in prunable.groups("channels")}
    if not groups:
        raise BadInput("there is no group to take units from: everything is frozen (see `prunus check`)")
    inner = {name: one for name, one in inside_one(groups).items() if "" not in blocks_of(one)}
    return inner or groups


def spared(groups: Groups, first: float, last: int) -> set[str]:
    """Names of groups in the first floor(first * blocks) and the last blocks, which stay whole."""
    every = {name: blocks_of(group, outermost=True) for name, group in groups.items()}
    blocks = {name: next(iter(found)) for name, found in every.items() if "" not in found}
    order = sorted(set(blocks.values()), key=lambda block: (block.rpartition(".")[0], int(block.rpartition(".")[2])))
    kept = {*order[: int(first * len(order))], *order[max(len(order) - last, 0) :]}
    return {name for name, block in blocks.items() if block in kept}


def equal_shares(groups: Groups, prunable: Any, budget: Budget, floor_share: float) -> dict[str, int]:
    """How many units each group keeps when all lose the same share, as little as meets the budget."""
    levels = [Level(name, (np.arange(group.size) + 0.5) / group.size, group.tag) for name, group in groups.items()]
    return by_cost(levels, budget, prunable.priced, floor_share=floor_share)


class Adapted:
    """A model whose matrices of some groups have adapters with gates; all else is frozen.

    Args:
        model: a copy; its other parameters stop training.
        groups: whose writers and readers get adapters.
        kind: `gate`, or `kept_path`: the gate is on the frozen part only.
        rank, scale: of the adapters.
        rng: what their `a` is drawn with.
    """

    def __init__(self, model: nn.Module, groups: Groups, kind: Any, *, rank: int, scale: float, rng: Rng) -> None:
        self.model, self.groups = model, groups
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        names = {slot.parameter for group in groups.values() for slot in group.slots}
        self.parts: dict[str, Adapter] = {}
        self.orders: dict[str, tuple[str, ...]] = {}
        for path, module in list(model.named_modules()):
            name = f"{path}.weight" if path else "weight"
            weight = getattr(module, "weight", None)
            if name not in names or not is_matrix(module) or not isinstance(weight, nn.Parameter):
                continue
            self.orders[name] = tuple(module._parameters)  # pyright: ignore[reportPrivateUsage] # None has its place too
            ones = torch.ones(weight.shape, dtype=torch.bool)
            draw, stored = rng.child(name).torch(), transposed(module)
            self.parts[name] = attach(module, kind, ones, rank=rank, scale=scale, stored=stored, generator=draw)

    def slots(self, group: Group, *roles: str) -> Iterator[tuple[Slot, Adapter]]:
        """The group's places in matrices that have an adapter."""
        for slot in group.slots:
            if slot.parameter in self.parts and slot.role in (roles or ("writer", "reader")):
                yield slot, self.parts[slot.parameter]

    def original(self, name: str) -> Tensor:
        """The frozen weight under an adapter."""
        return self.model.get_parameter(f"{name.rpartition('.')[0]}.parametrizations.weight.original".removeprefix("."))

    def close(self, keep: Mapping[str, np.ndarray]) -> None:
        """Set the gates: units that are not in a group's `keep` (bool `[size]`) are shut, where they are made and where they are read."""
        for part in self.parts.values():
            part.mask.fill_(True)
        for name, kept in keep.items():
            for slot, part in self.slots(self.groups[name]):
                shut = torch.from_numpy(slot.index[~kept].reshape(-1)).to(part.mask.device)
                part.mask.index_fill_(slot.axis, shut, False)

    def merged(self) -> tuple[SetWeight, ...]:
        """The adapters put into their matrices, as edits of dense shape."""
        edits: list[SetWeight] = []
        for name, order in self.orders.items():
            module = self.model.get_submodule(name.rpartition(".")[0])
            merge(module, order)
            edits.append(SetWeight(name, module.get_parameter("weight").detach().float().cpu().contiguous().numpy()))
        return tuple(edits)
