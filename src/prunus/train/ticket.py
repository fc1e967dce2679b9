"""What lottery-ticket experiments compare masks with: the same masks shuffled, and how far a sparse training strays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from prunus.core.rng import Rng

State = Mapping[str, Tensor]


def shuffled(
    masks: State,
    seed: int,
    *,
    within: Literal["group", "all"] = "group",
    parity: Literal["paper", "official"] = "paper",
) -> dict[str, Tensor]:
    """Masks with as many weights as before, at random places: the control of a mask (Frankle and Carbin 2019).

    Args:
        masks: parameter name -> bool.
        seed: of the draw.
        within: group keeps the count of every matrix, all only that of the model.
        parity: official draws as open_lth does: ranks of normal numbers of torch's generator, seeded anew for each matrix in
            the order of their names.
    """
    if within == "all":
        names = sorted(masks)
        whole = torch.cat([masks[name].flatten() for name in names])
        parts = whole[_order(whole.numel(), "all", seed, 0, parity)].split([masks[name].numel() for name in names])
        return {name: part.reshape(masks[name].shape) for name, part in zip(names, parts)}
    return {
        name: masks[name].flatten()[_order(masks[name].numel(), name, seed, at, parity)].reshape(masks[name].shape)
        for at, name in enumerate(sorted(masks))
    }


def _order(size: int, name: str, seed: int, at: int, parity: str) -> Tensor:
    if parity == "official":
        generator = torch.Generator().manual_seed(seed + at)
        return torch.normal(torch.zeros(size), torch.ones(size), generator=generator).argsort()
    return torch.from_numpy(np.argsort(Rng(seed, f"shuffle/{name}").uniform(np.arange(size)), kind="stable"))


def distance(full: State, sparse: State, masks: State) -> float:
    """Stability to pruning: L2 distance over kept weights of a sparse training's end from the full training's."""
    gaps = ((full[name].double() - sparse[name].double())[mask] for name, mask in masks.items())
    return math.sqrt(sum(float(gap.square().sum()) for gap in gaps))


def angle(start: State, full: State, sparse: State, masks: State) -> float:
    """Stability to pruning: angle in degrees between both trainings' ways from their start, over kept weights."""
    ways = [
        torch.cat([(end[name].double() - start[name].double())[mask] for name, mask in masks.items()])
        for end in (full, sparse)
    ]
    lengths = math.prod(float(way.norm()) for way in ways)
    cosine = float(ways[0] @ ways[1]) / lengths if lengths else 1.0
    return math.degrees(math.acos(min(max(cosine, -1.0), 1.0)))
