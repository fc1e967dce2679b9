"""LRP: channels that carry little of the true class's relevance go first (Yeom et al. 2021, Pruning by Explaining).

Removes: channels, neurons, heads.
Needs: a few labelled rows of each class (1 to 10 do); relevance at the outputs of every layer.
Cost: one forward pass and one changed backward pass, about twice those of a gradient.
Departures: rules are attached to operators instead of modules, so that residual sums and networks nobody wrote a
 canoniser for work; zennit, the library for this, agrees with them (docs/results). A batch norm is folded where it
 follows a convolution; the first layer has no rule of its own, which changes the relevance of pixels but of no filter.
 Attention and products propagate gradient * input: experimental. A group that several matrices write sums them. The
 released code scores in training mode, can empty a layer, and offers a norm for each layer (normalise="sum"). The
 authors filed a patent on the method.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from prunus.channels.members import measured
from prunus.core.registry import criterion


@criterion(unit="channels", needs=("output_relevance", "output_relevance_signed"), sense="keep", card="lrp-pruning")
def lrp(group: Any, *, reduce: Literal["abs", "signed", "positive"] = "abs") -> Tensor:
    """Relevance of each channel, summed over rows, positions and writers.

    Args:
        group: writers with `output_relevance` and `output_relevance_signed` `[units, per_unit]` in `.outputs`.
        reduce: of every position the absolute value, the value, or what is above 0.

    Returns:
        float64 `[size]`.
    """
    total = torch.zeros(group.size, dtype=torch.float64)
    sizes, sums = (measured(group, signal) for signal in ("output_relevance", "output_relevance_signed"))
    for (_, size), (_, signed) in zip(sizes, sums):
        value = {"abs": size, "signed": signed, "positive": (size + signed) / 2}[reduce]
        total += value.double().sum(1)
    return total
