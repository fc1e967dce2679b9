"""Block by block towards the dense model: each block learns its dense outputs on what the recovered blocks before it give."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.prunables.example import example_of
from prunus.prunables.model import ModelPrunable
from prunus.train.loop import fit
from prunus.train.modes import evaluating
from prunus.train.ordered import ordered
from prunus.train.step import Step, StepFn, infer_step, plain

Batch = tuple[tuple[Any, ...], dict[str, Any], Tensor]


class _Reached(Exception):
    """The block's input is known: the rest of the forward pass is not needed."""


def reconstruct(
    model: nn.Module,
    dense: nn.Module,
    data: Any,
    subset: Callable[[nn.Module, str], AbstractContextManager[None]],
    *,
    step: StepFn | None,
    batch: int,
    steps: int | None,
    epochs: int | None,
    report: dict[str, float],
    **settings: Any,
) -> None:
    """Train every block of the model's chains in place, first to last.

    Args:
        model: with the same blocks as `dense`.
        dense: gives the targets; left as it is.
        data: rows of role fit; all of them pass through every block.
        subset: `subset(block, prefix)` freezes all but what trains, and merges afterwards.
        step: adapter of a batch of the model.
        batch: rows at a time.
        steps, epochs: for each block.
        report: gets blocks, blocks_kept, and the mean squared error over all blocks before and after.
        **settings: of `train.loop.fit`.

    Raises:
        BadInput: the model has no chain of blocks.
    """
    batches = [plain(one) for one in ordered(data, batch)]
    own = step or infer_step(batches[0])
    names = [child for chain in ModelPrunable(model, example_of(data, model)).chains for child in chain.children]
    if not names:
        raise BadInput("this model has no repeated blocks to reconstruct: use mode='retrain'")
    before, after, restored = [], [], 0
    for name in names:
        block, target = model.get_submodule(name), dense.get_submodule(name)
        with evaluating(model), evaluating(target):
            rows = [_taught(target, call) for call in _calls(model, block, batches, own)]
        start = {key: value.detach().clone() for key, value in block.state_dict().items()}
        before.append(_error(block, rows))
        with subset(block, f"{name}."):
            fit(block, rows, step=_block_step, steps=steps, epochs=epochs, **settings)
        after.append(_error(block, rows))
        if not after[-1] <= before[-1]:
            block.load_state_dict(start)
            after[-1], restored = before[-1], restored + 1
    report |= {"blocks": float(len(names)), "blocks_kept": float(restored)}
    report |= {"error_before": sum(before) / len(names), "error_after": sum(after) / len(names)}


def _calls(
    model: nn.Module, block: nn.Module, batches: list[Any], step: StepFn
) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Arguments that the block is called with, a batch at a time."""
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append((args, kwargs))
        raise _Reached

    handle = block.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        with torch.no_grad():
            for one in batches:
                try:
                    step(model, one)
                except _Reached:
                    continue
    finally:
        handle.remove()
    return seen


def _taught(dense: nn.Module, call: tuple[tuple[Any, ...], dict[str, Any]]) -> Batch:
    with torch.no_grad():
        return (*call, _first(dense(*call[0], **call[1])))


def _block_step(block: nn.Module, batch: Batch) -> Step:
    args, kwargs, target = batch
    gap = (_first(block(*args, **kwargs)) - target).square()
    return Step(None, None, None, gap.flatten(1).mean(1))


def _error(block: nn.Module, rows: list[Batch]) -> float:
    with evaluating(block), torch.no_grad():
        losses = [step.loss for step in (_block_step(block, one) for one in rows) if step.loss is not None]
    return float(torch.cat(losses).double().mean())


def _first(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]
