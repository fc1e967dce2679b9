"""BatchNorm statistics: re-estimated on data, without training (the default after every cut of channels).

Removes: nothing.
Needs: some hundreds of fit rows, no labels.
Cost: one forward pass over them.
Departures: none. Batch means and variances are averaged with equal weight (not exponentially); rows come in the keyed order of
    their ids, because folders are sorted by class and a batch of one class has too small a variance; dropout stays off. So the
    result depends on no seed and not on the order of the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from prunus.core.errors import BadInput
from prunus.core.registry import recovery
from prunus.prunables.roles import require_role
from prunus.recovery.training import Report
from prunus.train.feed import Feed
from prunus.train.kinds import BatchNorm
from prunus.train.step import to_device


@recovery(needs=())
def bn_stats(
    model: nn.Module,
    data: Any,
    *,
    step: Any = None,
    batch: int = 256,
    rows: int = 2048,
    device: str = "cpu",
    masks: Any = None,
    teacher: Any = None,
    report: Report | None = None,
) -> nn.Module:
    """Re-estimate running means and variances in place and return the model in evaluation mode.

    A model without BatchNorm comes back unchanged. Momentum and every other setting are restored.

    Args:
        step: adapter of a batch; by default the model is called on its inputs.
        batch: rows at a time; large batches, because the variance within a batch is averaged.
        rows: read at most so many.
        device: where the model runs.
        masks: not read: no weight changes.
        teacher: not read.
        report: filled with samples.
    """
    require_role(data, {"fit"}, what="re-estimating BatchNorm statistics")
    norms = [m for m in model.modules() if isinstance(m, BatchNorm) and m.track_running_stats]
    model.eval()
    if not norms:
        return model
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch then keeps the cumulative mean
            norm.train()
        seen = _pass(model, data, batch, rows, torch.device(device), step)
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
            norm.eval()
    if seen == 0:
        raise BadInput("there are no rows to estimate BatchNorm statistics from")
    if report is not None:
        report["samples"] = float(seen)
    return model


def _pass(model: nn.Module, data: Any, batch: int, rows: int, device: torch.device, step: Any) -> int:
    seen, largest = 0, 0
    with torch.no_grad():
        for found in Feed(data, batch).epoch(0, 0):
            inputs = to_device(found, device)
            size = _size(inputs)
            if seen and size < min(batch, largest):
                continue  # the rest of the rows: a small batch would count as much as a full one
            largest = max(largest, size)
            if step is not None:
                step(model, inputs)
            elif isinstance(inputs, Mapping):
                model(**{k: v for k, v in inputs.items() if k not in ("ids", "labels")})
            else:
                x = inputs[-2] if isinstance(inputs, (tuple, list)) else inputs
                model(*x) if isinstance(x, (tuple, list)) else model(x)
            seen += size
            if seen >= rows:
                break
    return seen


def _size(batch: Any) -> int:
    """Rows in a batch."""
    if isinstance(batch, Mapping):
        return next(len(v) for v in batch.values() if hasattr(v, "__len__"))
    part = batch[-2] if isinstance(batch, (tuple, list)) else batch
    return _size(part[0]) if isinstance(part, (tuple, list)) and not isinstance(part[0], torch.Tensor) else len(part)
