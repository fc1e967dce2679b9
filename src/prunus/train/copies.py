"""Deep copies of models."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import Tensor, nn


def copied(model: nn.Module, instead: Mapping[int, object] | None = None) -> nn.Module:
    """A deepcopy, also where a module holds a tensor that it has computed, as `torch.nn.utils.weight_norm` leaves one.

    Args:
        model: left as it is.
        instead: `id()` of an object of the model, alive -> what takes its place in the copy.
    """
    memo = dict(instead or {})
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:  # deepcopy refuses what has a history
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(model, memo)
