"""The arguments of a forward pass, from the first batch of any data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from prunus.core.errors import BadInput
from prunus.train.ordered import ordered


def first_inputs(data: Any, batch: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of the model.

    Args:
        data: see `train.ordered`; a bare tensor or dict in a list is a ready batch.
        batch: rows in it.
    """
    found = next(iter(ordered(data, batch)), None)
    if found is None:
        raise BadInput("there are no rows to run the model on")
    if isinstance(found, Mapping):
        return (), {name: value for name, value in found.items() if name not in ("ids", "labels")}
    if isinstance(found, torch.Tensor):
        return (found,), {}
    x = found[-2] if len(found) in (2, 3) else found[0]
    return (tuple(x) if isinstance(x, (tuple, list)) else (x,)), {}
