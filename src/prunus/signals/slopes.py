"""Gradients of one matrix for each row of a batch, without ever holding a matrix for each row.

The gradient of a row is the sum over its positions of output gradient times input. Both are kept from one pass; the mean over rows is one
product, and single entries are read off where they are wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.signals.hessian import unfolded
from prunus.signals.scan import check_finite
from prunus.train.step import StepFn, infer_step


@dataclass(frozen=True)
class Slopes:
    """`inputs [rows, positions, inputs]` and `outputs [rows, positions, outputs]`: what the matrix read, and the gradient of each row's
    loss by what it made."""

    inputs: Tensor
    outputs: Tensor

    def mean(self) -> Tensor:
        """Gradient of the mean loss, `[outputs, inputs]`."""
        return self.outputs.flatten(0, 1).T @ self.inputs.flatten(0, 1) / len(self.inputs)

    def at(self, block: Tensor) -> Tensor:
        """Gradients of every row at flat positions of the matrix, `[rows, B]`."""
        block = torch.as_tensor(block)
        width = self.inputs.shape[2]
        return (self.outputs[:, :, block // width] * self.inputs[:, :, block % width]).sum(1)


def slopes(model: nn.Module, name: str, batch: Any, step: StepFn | None = None) -> Slopes:
    """One pass forward and back, as far as the module.

    Args:
        model: its parameters must want gradients, those of the module at least.
        name: of a linear layer or an ungrouped convolution that runs once.
        batch: with labels.
        step: adapter of the batch.

    Raises:
        BadInput: the module ran more than once or not at all, has groups, or there is no loss.
        NonFinite: a gradient is not finite.
    """
    module, seen = model.get_submodule(name), list[tuple[Tensor, Tensor]]()
    if int(getattr(module, "groups", 1)) > 1:
        raise BadInput(f"{name} is a grouped convolution: leave it out")

    def catch(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((args[0].detach(), output))

    handle = module.register_forward_hook(catch)
    try:
        with torch.enable_grad():
            loss = (step or infer_step(batch))(model, batch).loss
    finally:
        handle.remove()
    if loss is None or len(seen) != 1:
        raise BadInput(
            f"gradients of {name} need a loss for each row, and a module that runs once (it ran {len(seen)} times)"
        )
    x, output = seen[0]
    (grad,) = torch.autograd.grad(loss.sum(), [output])
    check_finite(grad, name, "gradient")
    rows = len(loss)
    if isinstance(module, (nn.Conv1d, nn.Conv2d)):
        x = torch.cat([piece[0] for piece in unfolded(module, x)])
        grad = grad.flatten(2).transpose(1, 2)
    return Slopes(x.reshape(rows, -1, x.shape[-1]).float(), grad.reshape(rows, -1, grad.shape[-1]).float())
