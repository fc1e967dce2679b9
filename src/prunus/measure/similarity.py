"""Similarity of outputs: CKA, agreement and divergence of two models on the same rows (Zhou et al. 2023, Kornblith et al. 2019).

Removes: nothing.
Needs: two models (`dense` is the other one) and rows; no labels.
Cost: a forward pass of each; outputs of all rows are held.
Departures: the released code stops one batch later than it was told and compares inputs too; here it is outputs, of all rows given.
 Outputs that do not vary have no CKA: NaN, with a warning.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput, NonFinite
from prunus.core.registry import measure
from prunus.maths.cka import linear_cka
from prunus.maths.connectivity import agreement, jensen_shannon
from prunus.measure.measured import Measured, role_facts
from prunus.train.modes import evaluating
from prunus.train.ordered import ordered
from prunus.train.step import StepFn, infer_step, to_device


@measure(needs=("logits",), card="three-regime", pair=True)
def similarity(
    model: nn.Module,
    data: Any,
    *,
    step: Any = None,
    batch: int = 256,
    device: str = "cpu",
    dense: nn.Module | None = None,
    debiased: bool = False,
) -> Measured:
    """`cka` of logits, `cka_softmax`, `agreement` (share of rows) and `js` (nats) against another model.

    Args:
        step: adapter of a batch; inferred from the first one.
        batch: rows at a time.
        device: where the models run.
        dense: the other model; without one the model is compared with itself.
        debiased: the unbiased estimate, for few rows.
    """
    a = outputs(model, data, step=step, batch=batch, device=device)
    b = a if dense is None else outputs(dense, data, step=step, batch=batch, device=device)
    if a.shape != b.shape:
        raise BadInput(f"the two models give {list(a.shape)} and {list(b.shape)}: compare models with the same outputs")
    found = {"cka": _cka(a, b, debiased), "cka_softmax": _cka(a.softmax(1), b.softmax(1), debiased)}
    found |= {"agreement": agreement(a.numpy(), b.numpy()), "js": jensen_shannon(a.numpy(), b.numpy())}
    return Measured({name: (value, None) for name, value in found.items()}, **role_facts(data, len(a)))


def outputs(
    model: nn.Module, data: Any, *, step: StepFn | None = None, batch: int = 256, device: str = "cpu"
) -> Tensor:
    """Logits of every row in the order of the data: float64 `[n, c]`. The model's mode is restored.

    Raises:
        BadInput: logits that are not `[B, c]`, no rows.
        NonFinite: logits with NaN or infinity.
    """
    parts: list[Tensor] = []
    with evaluating(model), torch.inference_mode():
        for number, rows in enumerate(ordered(data, batch)):
            step = step or infer_step(rows)
            logits = step(model, to_device(rows, torch.device(device))).logits
            if logits is None or logits.dim() != 2:
                raise BadInput("outputs are compared as logits [B, c]; pass step= for a model that gives others")
            if not bool(logits.isfinite().all()):
                raise NonFinite(f"logits of the rows from {number * batch} on are NaN or infinite")
            parts.append(logits.double().cpu())
    if not parts:
        raise BadInput("there are no rows to compare on")
    return torch.cat(parts)


def _cka(a: Tensor, b: Tensor, debiased: bool) -> float:
    if any(float((side - side.mean(0)).abs().max()) == 0 for side in (a, b)):
        warnings.warn("one of the models gives every row the same output, so their CKA is not defined", stacklevel=3)
        return float(np.nan)
    return linear_cka(a, b, debiased=debiased)
