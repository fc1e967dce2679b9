"""Gradients of the loss of one row at a time: exact for any model, and as slow as a pass for each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.signals.scan import Scan, check_finite
from prunus.train.step import one_row


def row_gradients(scan: Scan, named: Sequence[tuple[str, Tensor]], what: str) -> Iterator[tuple[Tensor, ...]]:
    """For every row of the batch the gradients of its loss, zeros where it reaches nothing; no hooks of other signals run.

    Args:
        scan: of the batch.
        named: (module, parameter) to differentiate by.
        what: the signal, for messages.

    Raises:
        BadInput: the step gives no loss for each row.
        NonFinite: a gradient is NaN or infinite.
    """
    assert scan.step is not None
    for row in range(scan.rows):
        with scan.pause():
            loss = scan.step(scan.model, one_row(scan.batch, row, scan.rows)).loss
            if loss is None or not loss.requires_grad:
                raise BadInput(f"{what} needs a loss for each row: give labels, or a step that returns loss")
            grads = torch.autograd.grad(loss.sum(), [one for _, one in named], materialize_grads=True)
        for (name, _), grad in zip(named, grads):
            check_finite(grad, name, "gradient")
        yield grads
