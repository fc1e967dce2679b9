"""Geometric median: filters that the others of their layer can stand in for go first (He et al. 2019, FPGM).

Removes: channels, neurons, heads.
Needs: the weights only.
Cost: channels^2 * weights of a channel for each writer; blocks of channels, so no matrix above 32 MB is held.
Departures: the paper looks for the filters nearest to the geometric median; like its released code this sums the
 distances to all other filters of the layer, which is smallest there. A group that several matrices write sums their
 distances, each over its mean, so that a wide matrix does not drown the others. In a layer whose filters are all equal
 every distance is 0.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from prunus.channels.members import makers, matrices
from prunus.core.registry import criterion

HELD = 4_000_000  # float64 distances held at a time


@criterion(unit="channels", needs=("weight",), sense="keep", normalise="mean", card="torch-pruning")
def geometric_median(
    group: Any, *, members: Literal["all", "writers", "readers"] = "writers", p: float = 2.0
) -> Tensor:
    """Sum of the distances from each channel to all others.

    Args:
        group: Members with `.weight [units, per_unit, other]`.
        members: which matrices count; writers: the readers where no matrix writes the group.
        p: of the p-norm that measures distance.

    Returns:
        float64 `[size]`; for one matrix the sum of distances itself over their mean.
    """
    total = torch.zeros(group.size, dtype=torch.float64)
    chosen = makers(group) if members == "writers" else matrices(group, members)
    for member in chosen:
        distances = summed_distances(member.weight.detach().double().flatten(1).cpu(), p)
        mean = distances.mean()
        total += distances / mean if mean != 0 else distances
    return total


def summed_distances(filters: Tensor, p: float = 2.0) -> Tensor:
    """Distances of each filter to all others, added up.

    Args:
        filters: float64 `[n, d]`.
        p: of the p-norm.

    Returns:
        float64 `[n]`.
    """
    rows = max(1, HELD // max(len(filters), 1))
    exact = "donot_use_mm_for_euclid_dist"  # the fast form loses half the digits for filters that are nearly equal
    return torch.cat([torch.cdist(part, filters, p, exact).sum(1) for part in filters.split(rows)])
