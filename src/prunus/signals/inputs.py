"""The input of a batch: found, replaced, put through the model again, and differentiated by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput, NonFinite
from prunus.signals.scan import Scan
from prunus.train.step import Step, chosen_rows

LABELS = ("ids", "labels")


def float_input(batch: Any, what: str) -> Tensor:
    """The tensor that the model reads, `[B, ...]`, which must be of floating point.

    Args:
        batch: `(x, y)`, `(ids, x, y)` or a dict.
        what: who asks, for the message.
    """
    if isinstance(batch, Mapping):
        found = [v for name, v in batch.items() if name not in LABELS and _is_float(v)]
    else:
        found = [batch[-2]] if _is_float(batch[-2]) else []
    if len(found) != 1:
        raise BadInput(
            f"{what} needs ONE tensor of floating point as input, and this batch has {len(found)}: give images, numbers or "
            "embeddings; for gradients of token ids ask for grad_norm instead"
        )
    return found[0]


def with_input(batch: Any, x: Tensor) -> Any:
    """The same batch around another input."""
    if isinstance(batch, Mapping):
        return {name: x if name not in LABELS and _is_float(value) else value for name, value in batch.items()}
    return (*batch[:-2], x, batch[-1])


def logits_of(scan: Scan, model: nn.Module, x: Tensor, rows: Tensor | None = None) -> Tensor:
    """Logits `[B, c]`, float32, of other inputs for the running batch (or for `rows` of it); no hook sees the pass.

    Raises:
        BadInput: the step gives no logits of this shape.
        NonFinite: logits that are NaN or infinite; names the rows.
    """
    assert scan.step is not None
    batch = scan.batch if rows is None else chosen_rows(scan.batch, rows.cpu(), scan.rows)
    with scan.pause():
        result = scan.step(model, with_input(batch, x))
    if result.logits is None or result.logits.dim() != 2 or result.logits.shape[1] < 2:
        shape = None if result.logits is None else list(result.logits.shape)
        raise BadInput(f"distances and gradients of classes need logits [B, 2 classes or more], not {shape}")
    logits = result.logits.float()
    finite = logits.detach().isfinite().all(1)
    if not bool(finite.all()):
        raise NonFinite(f"the logits of rows {named(result, ~finite)} are not finite")
    return logits


def named(step: Step, which: Tensor) -> list[Any]:
    """Ids (or positions in the batch) of at most five rows of a bool mask `[B]`."""
    at = which.nonzero().flatten().cpu().numpy()[:5]
    return (at if step.ids is None else step.ids[at]).tolist()


def gradient(output: Tensor, x: Tensor, *, again: bool = False) -> Tensor:
    """Gradient of the sum of `output [B]` at `x [B, ...]`: rows do not mix in evaluation mode, so each gets its own.

    Args:
        output: one number for each row.
        x: requires a gradient.
        again: keep the graph, another gradient of it follows.
    """
    return torch.autograd.grad(output.sum(), x, retain_graph=again, materialize_grads=True)[0]


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 1
