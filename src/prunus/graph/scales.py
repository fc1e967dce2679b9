"""At which scale each module of a model for pictures works: the height of its output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from prunus.train.modes import evaluating

NECKS, HEADS = ("fpn", "neck", "extra"), ("head", "classifier", "rpn")


def heights(model: nn.Module, call: Callable[[], Any]) -> dict[str, int]:
    """Module -> height of its output `[B, C, H, W]`, in the order of the forward pass, of modules called once.

    Args:
        model: left as it was.
        call: one forward pass; it runs in evaluation mode and without gradients.
    """
    found: dict[str, list[int]] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            picture = isinstance(output, Tensor) and output.dim() == 4
            found.setdefault(name, []).append(output.shape[2] if picture else 0)

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in model.named_modules() if name]
    try:
        with evaluating(model), torch.no_grad():
            call()
    finally:
        for handle in handles:
            handle.remove()
    return {name: calls[0] for name, calls in found.items() if len(calls) == 1 and calls[0] > 0}


def part(name: str) -> str:
    """backbone, neck or head, by what the parts of a module's name are called."""
    words = name.lower().split(".")
    if any(word.startswith(HEADS) or word.endswith("head") for word in words):
        return "head"
    return "neck" if any(word.startswith(NECKS) for word in words) else "backbone"
