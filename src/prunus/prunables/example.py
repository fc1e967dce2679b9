"""Example inputs: what a model is called with, from data or drawn at random."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from prunus.core.rng import Rng
from prunus.train.feed import Feed
from prunus.train.step import plain


def example_of(data: Any, model: nn.Module) -> Any:
    """What `model` is called with for one row of `data`: shapes are all that matters, and costs are those of one row.

    Args:
        data: as `train.fit` takes it.
        model: not called; its tensors say which device the example belongs on.
    """
    batch = plain(next(iter(Feed(data, 1).epoch(0, 0))))
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    if isinstance(batch, Mapping):
        tensors = {name: value for name, value in batch.items() if name not in ("ids", "labels")}
        return {name: value[:1].to(device) for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    x = batch[1] if len(batch) == 3 else batch[0]
    return tuple(part[:1].to(device) for part in x) if isinstance(x, tuple) else x[:1].to(device)


def drawn_like(example: Any, model: nn.Module, rng: Rng) -> Any:
    """The same structure with random values: normal numbers, and token ids that every embedding of the model knows.

    Args:
        example: nested tensors, as `graph.example.restore` makes them (zeros, which would prove little).
        model: whose embeddings bound the ids.
        rng: seed and purpose.
    """
    sizes = [module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding)]
    generator, most = rng.torch(), min(sizes, default=2)

    def draw(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            if value.is_floating_point():
                return torch.randn(value.shape, generator=generator).to(value)
            return (
                value
                if value.dtype == torch.bool
                else torch.randint(0, most, value.shape, generator=generator).to(value)
            )
        if isinstance(value, Mapping):
            return {name: value[name] if "mask" in str(name) else draw(value[name]) for name in value}
        return type(value)(draw(item) for item in value) if isinstance(value, tuple | list) else value

    return draw(example)
