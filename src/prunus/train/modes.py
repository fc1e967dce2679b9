"""Training or evaluation mode of modules, put back as it was, and what modules keep from evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def modes_kept(*models: nn.Module) -> Iterator[None]:
    """Every module is in the mode it was in when the block ends, however it ends."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block."""
    with modes_kept(*models):
        for model in models:
            model.eval()
        yield


def forget(model: nn.Module) -> None:
    """Drop what modules have kept from evaluation (biases of positions, merged weights): they do so on entering training."""
    with modes_kept(model):
        model.train()
