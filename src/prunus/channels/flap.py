"""FLAP: remove the channels whose input hardly fluctuates; what they give on average can be a bias (An et al. 2023).

Removes: attention heads (with grouped queries, whole key-value groups), feed-forward neurons; any channel that is read.
Needs: mean and variance of every input of the readers over calibration tokens, padding left out; no labels.
Cost: one forward pass, two numbers for each input column.
Departures: variance is exact and per token; the released running rule uses the new mean twice, skips the first
 sequence and depends on their order (`released_statistics` reproduces it). The released code squares the attention
 metric only: parity="official" does so for units wider than one column. A score is the mean z-score of the unit's
 columns, so it is comparable across layers as it stands; columns that all score the same get 0. Heads and neurons are
 priced by their parameters (Group.cost), for any head size and for grouped queries. The released cut drops the unit
 at the threshold too and may empty a layer (flap_structures.py).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from prunus.channels.members import matrices
from prunus.core.errors import BadInput, NonFinite
from prunus.core.registry import criterion

Metric = Literal["wifv", "ifv", "wifn"]


@criterion(
    unit="channels",
    needs=("weight", "input_mean", "input_var"),
    sense="keep",
    groups="inner",
    compensate="mean_bias",
    allocate="global",
    card="flap",
)
def flap(group: Any, *, metric: Metric = "wifv", parity: Literal["paper", "official"] = "paper") -> Tensor:
    """Mean standardised fluctuation of the columns of each unit.

    Args:
        group: readers with `.weight [units, per_unit, other]` and `[units, per_unit]` input_var
            (wifn: input_norm).
        metric: wifv = variance times squared weights, ifv = variance, wifn = mean |weight| times input norm.
        parity: official squares the metric of units that own several columns (heads).

    Returns:
        float `[size]`, mean 0 in the group.
    """
    columns = torch.cat([_column_metric(reader, metric) for reader in matrices(group, "readers")], dim=1)
    if not torch.isfinite(columns).all():
        raise NonFinite(f"the {metric} of group {group.name} is NaN or infinite: look at its calibration activations")
    if parity == "official" and columns.shape[1] > 1:
        columns = columns.square()
    return standardised(columns).mean(1)


def _column_metric(reader: Any, metric: str) -> Tensor:
    """`[units, per_unit]`, not negative."""
    if metric not in ("wifv", "ifv", "wifn"):
        raise BadInput(f"metric is wifv, ifv or wifn, not {metric!r}")
    name = "input_norm" if metric == "wifn" else "input_var"
    statistic = getattr(reader, name, None)
    if statistic is None:
        raise BadInput(f"flap with {metric} needs {name} of {reader.name}: collect that signal first")
    if metric == "ifv":
        return statistic
    weight = reader.weight.detach().to(statistic.dtype)
    return statistic * (weight.abs().mean(2) if metric == "wifn" else weight.square().sum(2))


def standardised(values: Tensor) -> Tensor:
    """(values - mean) / unbiased deviation over all entries; 0 everywhere when they are all equal, or only one."""
    centred = values - values.mean()
    if values.numel() < 2:
        return torch.zeros_like(values)
    deviation = values.std()
    return centred / deviation if float(deviation) > 0 else torch.zeros_like(values)


def released_statistics(inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The running statistics of the released code, one sequence at a time, as its in-place updates really compute them.

    Args:
        inputs: `[sequences, tokens, in]`.

    Returns:
        fluctuation, baseline (mean) and squared norm, each `[in]`.
    """
    fluctuation, mean, squares = (torch.zeros_like(inputs[0, 0]) for _ in range(3))
    for seen, tokens in enumerate(inputs):
        share = 1 / (seen + 1)
        mean = mean * (seen * share) + tokens.mean(0) * share
        squares = squares * (seen * share) + tokens.square().sum(0) * share
        if seen:
            fluctuation = fluctuation * ((seen - 1) / seen) + (tokens - mean).square().sum(0) * share
    return fluctuation, mean, squares
