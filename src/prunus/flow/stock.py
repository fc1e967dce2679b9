"""Uniform cuts of transformers models as a plain config: what stock `from_pretrained` builds must be the cut model.

A cut model says its sizes in modules; a config has one number for all layers. The numbers are found by trying: the stock class is built
on the meta device, and where a parameter has another shape, each field that can explain it is set to what would. Several choices may
fit the shapes (half the heads, or heads of half the size), so the last word is the outputs: the stock model with the cut weights must
compute what the cut model computes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from prunus.core.rng import Rng
from prunus.graph.record import untouched
from prunus.graph.trace import map_tensors, run, tensors_in
from prunus.prunables.example import drawn_like

TRIALS = 200
CLOSE = {torch.float64: 1e-9, torch.float32: 1e-4}
Change = tuple[str, int]
Shapes = dict[str, tuple[int, ...]]


def is_stock(model: nn.Module) -> bool:
    """Whether the model has a config that transformers could build it from."""
    return hasattr(getattr(model, "config", None), "save_pretrained")


def stock_config(model: nn.Module, example: Any) -> tuple[Any, str]:
    """(the config, "") of a cut transformers model, or (None, why there is none).

    Args:
        model: after its plans; left as it is.
        example: what it is called with; only shapes and types are read.
    """
    if any(tensor.is_meta for tensor in model.parameters()):
        return None, "the weights are on the meta device"
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    reason = "the layers differ, and a config has one number for all"
    for config in _fitting(model, wanted):
        reason = "a stock model of these sizes computes something else"
        if _same(model, config, example):
            config.architectures = [type(model).__name__]
            config.dtype = next(model.parameters()).dtype
            return config, ""
    return None, reason


def _fitting(model: nn.Module, wanted: Shapes) -> Iterator[Any]:
    """Configs whose stock model has the wanted shapes: every chain of changes that explains more shapes at each step."""
    stack: list[dict[str, int]] = [{}]
    seen: list[dict[str, int]] = []
    while stack and len(seen) < TRIALS:
        changes = stack.pop()
        if changes in seen:
            continue
        seen.append(changes)
        config, shapes = _built(model, changes)
        if shapes is None:
            continue
        wrong = _wrong(shapes, wanted)
        if not wrong:
            yield config
            continue
        for field, value in dict.fromkeys(_explaining(config, wrong)):
            if field in changes:
                continue
            _, after = _built(model, {**changes, field: value})
            if after is not None and len(_wrong(after, wanted)) < len(wrong):
                stack.append({**changes, field: value})


def _built(model: nn.Module, changes: dict[str, int]) -> tuple[Any, Shapes | None]:
    """The model's config with changes, and the shapes of its stock model; None where the class refuses them."""
    config: Any = copy.deepcopy(model.config)
    try:
        for field, value in changes.items():
            setattr(config, field, value)
        with torch.device("meta"):
            stock = type(model)(config)
    except Exception:  # whatever a class raises on numbers it can't take says that this is not its config
        return config, None
    return config, {name: tuple(tensor.shape) for name, tensor in stock.state_dict().items()}


def _wrong(shapes: Shapes, wanted: Shapes) -> list[tuple[int, int]]:
    """(size, wanted size) of every axis that differs; tensors that only one has count as (0, 0)."""
    wrong = [(0, 0)] * len(set(shapes) ^ set(wanted))
    for name in sorted(set(shapes) & set(wanted)):
        if len(shapes[name]) == len(wanted[name]):
            wrong += [(have, want) for have, want in zip(shapes[name], wanted[name]) if have != want]
    return wrong


def _explaining(config: Any, wrong: list[tuple[int, int]]) -> Iterator[Change]:
    """Fields in proportion to a size that differs, or not set at all, with the value that would make it right."""
    for field, value in vars(config).items():
        for have, want in dict.fromkeys(wrong):
            if value is None and want:
                yield field, want
            elif isinstance(value, int) and _divides(value, have) and value * want % have == 0:
                yield field, value * want // have


def _divides(value: int, have: int) -> bool:
    """Whether a field's value is a whole number that `have` is a multiple of."""
    return not isinstance(value, bool) and value > 0 and have > 0 and have % value == 0


def _same(model: nn.Module, config: Any, example: Any) -> bool:
    """Whether the stock model with the cut weights gives the cut model's outputs."""
    first = next(model.parameters())
    stock = type(model)(copy.deepcopy(config)).to(first.device, first.dtype).eval()
    stock.load_state_dict(model.state_dict())
    inputs = map_tensors(drawn_like(example, model, Rng(0, "stock")), lambda tensor: tensor.to(first.device))
    with untouched(model), torch.no_grad():
        pairs = list(zip(tensors_in(run(model.eval(), inputs)), tensors_in(run(stock, inputs)), strict=True))
    close = CLOSE.get(first.dtype, 1e-2)
    return all(a.shape == b.shape and torch.allclose(a, b, rtol=close, atol=close) for a, b in pairs)
