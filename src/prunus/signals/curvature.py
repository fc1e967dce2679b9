"""Sums of derivatives over kept batches, and products of a gradient with the Hessian of a loss, exact whatever the batches.

The loss is a mean over all rows: each batch adds its part. A product needs all of the gradient first, so batches pass twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from prunus.core.errors import BadInput
from prunus.signals.scan import Scan
from prunus.train.step import Step

Batches = Sequence[tuple[Any, int]]
LossOf = Callable[[Step], Tensor | None]
Derive = Callable[[Tensor], tuple[Tensor | None, ...]]


def own_loss(step: Step) -> Tensor | None:
    """The loss of each row, as the step gives it."""
    return step.loss


def summed(
    scan: Scan, batches: Batches, derive: Derive, parameters: Sequence[Tensor], loss_of: LossOf = own_loss
) -> list[Tensor]:
    """Sum over batches of derivatives of their part of the mean loss.

    Args:
        scan: the pass; its step runs the model again.
        batches: (batch, rows) of all rows.
        derive: a batch's part of the mean loss to one tensor for each parameter, or None where it is not reached.
        parameters: what `derive` gives derivatives by.
        loss_of: loss of each row from a step.

    Raises:
        BadInput: there is no loss to derive.
    """
    assert scan.step is not None
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    total = sum(rows for _, rows in batches)
    for batch, _ in batches:
        with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
            loss = loss_of(scan.step(scan.model, batch))
            if loss is None or not loss.requires_grad:
                raise BadInput("snip and grasp need a loss for each row: give labels, or a step that returns loss")
            for one, part in zip(sums, derive(loss.sum() / total)):
                if part is not None:
                    one += part.detach()
    return sums


def gradient(scan: Scan, batches: Batches, parameters: Sequence[Tensor], loss_of: LossOf = own_loss) -> list[Tensor]:
    """g, the gradient of the mean loss."""
    return summed(
        scan, batches, lambda loss: torch.autograd.grad(loss, parameters, allow_unused=True), parameters, loss_of
    )


def _is_curved(grad: Tensor | None) -> bool:
    return grad is not None and grad.requires_grad


def hessian_product(
    scan: Scan,
    batches: Batches,
    parameters: Sequence[Tensor],
    along: Sequence[Tensor],
    loss_of: LossOf = own_loss,
) -> list[Tensor]:
    """H v, with H the Hessian of the mean loss and v one tensor for each parameter."""

    def curved(loss: Tensor) -> tuple[Tensor | None, ...]:
        first = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
        parts = [(one * v).sum() for one, v in zip(first, along) if _is_curved(one)]
        if not parts:
            return (None,) * len(parameters)
        return torch.autograd.grad(torch.stack(parts).sum(), parameters, allow_unused=True)

    return summed(scan, batches, curved, parameters, loss_of)
