"""BN scale: absolute scale of the norm that follows a channel (Liu et al. 2017, Network Slimming).

Removes: channels, neurons, heads.
Needs: the weights only; it means most after training with a penalty on the scales (masksparsity).
Cost: one pass over the norms' vectors; over the writers' weights where no norm follows.
Departures: a group that several norms follow (a residual stream) takes the mean of their scales, where the card's
 released code lets thresholds vote (masksparsity.vote). A group without a norm is not prunable by the paper: here each
 writer counts with the root of its sum of squares, which is, as a scale is after a norm, the deviation of the
 channel's output for white inputs. Norms are told by having a scale and a shift, so slopes of PReLU are not mistaken
 for scales.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from prunus.channels.members import makers
from prunus.core.registry import criterion


@criterion(unit="channels", needs=("weight",), sense="keep", card="masksparsity")
def bn_scale(group: Any, *, reduce: Literal["mean", "max"] = "mean") -> Tensor:
    """Mean absolute scale of the norms of each channel.

    Args:
        group: `vectors` with the norms' weights and biases `[units, per_unit, 1]`; `writers` where there are none.
        reduce: mean or max over the norms, and over the positions a unit owns.

    Returns:
        float64 `[size]`.
    """
    scales = [member.weight.detach().double().abs().flatten(1) for member in scale_members(group)]
    if not scales:
        scales = [m.weight.detach().double().square().sum(2).sqrt() for m in makers(group)]
    columns = torch.cat([scale.cpu() for scale in scales], dim=1)
    return columns.mean(1) if reduce == "mean" else columns.amax(1)


def scale_members(group: Any) -> list[Any]:
    """Vectors `X.weight` of a group that holds `X.bias` too: the scales of norms."""
    shifted = {m.name.removesuffix(".bias") for m in group.vectors if m.name.endswith(".bias")}
    return [m for m in group.vectors if m.name.endswith(".weight") and m.name.removesuffix(".weight") in shifted]
