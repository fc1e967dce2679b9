"""An example input from data: what a model is called with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from prunus.train.feed import Feed
from prunus.train.step import plain


def example_of(data: Any, model: nn.Module) -> Any:
    """What `model` is called with for the first rows of `data`, at most two of them: shapes are all that matters.

    Args:
        data: as `train.fit` takes it.
        model: not called; its tensors say which device the example belongs on.
    """
    batch = plain(next(iter(Feed(data, 2).epoch(0, 0))))
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    if isinstance(batch, Mapping):
        tensors = {name: value for name, value in batch.items() if name not in ("ids", "labels")}
        return {name: value[:2].to(device) for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    x = batch[1] if len(batch) == 3 else batch[0]
    return tuple(part[:2].to(device) for part in x) if isinstance(x, tuple) else x[:2].to(device)
