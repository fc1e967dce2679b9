"""Optimizers by name, and learning rates as functions of progress in [0, 1]: nothing to store, nothing to resume."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import nn

from prunus.core.errors import BadInput, UnknownName

Curve = Callable[[float], float]
MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Optimizer = Literal["sgd", "adamw"] | MakeOptimizer | torch.optim.Optimizer
Schedule = Literal["constant", "linear", "cosine", "step", "onecycle"] | Curve


def _cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def _step(progress: float) -> float:
    """x0.1 at one half and again at three quarters."""
    return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01


def _onecycle(progress: float) -> float:
    """Up a straight line over the first 15 %, then down half a cosine."""
    return progress / 0.15 if progress < 0.15 else _cosine((progress - 0.15) / 0.85)


CURVES: dict[str, Curve] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": _cosine,
    "step": _step,
    "onecycle": _onecycle,
}


def curve(schedule: Schedule) -> Curve:
    """The factor on the learning rate, by name or as given."""
    if callable(schedule):
        return schedule
    if schedule not in CURVES:
        raise UnknownName("learning-rate schedule", schedule, CURVES)
    return CURVES[schedule]


def warm() -> None:
    """Make the first optimizer of a process: torch then imports its compiler, a second that belongs to no training."""
    torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)


def make_optimizer(
    model: nn.Module, optimizer: Optimizer, *, lr: float, momentum: float, nesterov: bool, weight_decay: float
) -> torch.optim.Optimizer:
    """An optimizer of all parameters that want a gradient; one that is given is used as it is.

    Raises:
        BadInput: nothing to train, or a learning rate that is not positive.
    """
    if isinstance(optimizer, torch.optim.Optimizer):
        return optimizer
    if not lr > 0:
        raise BadInput(f"lr must be positive, not {lr}")
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise BadInput("the model has no parameter that wants a gradient (requires_grad is False on all)")
    if callable(optimizer):
        return optimizer(parameters)
    if optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr, momentum=momentum, nesterov=nesterov and momentum > 0, weight_decay=weight_decay
        )
    if optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr, weight_decay=weight_decay)
    raise UnknownName("optimizer", str(optimizer), ("sgd", "adamw"))
