"""Distillation: the dense model teaches the pruned one (the recovery of "Distilling the Knowledge in Data Pruning", 2024).

Removes: nothing; masked weights stay zero.
Needs: the fit rows and a teacher with the same logits; labels only where alpha < 1.
Cost: fine-tuning, and one teacher forward per batch.
Departures: no code was released and the paper leaves two things open: temperature 4 with the factor T * T is the usual choice, and
    alpha = "auto" is a rule of our own, clip(1 - kept / 2, 0.5, 1), after the paper's finding that the best weight grows as fewer
    rows are kept. Teacher and student see the same augmented view. A teacher more than twice as large as its student is
    warned of where less than 30 % of the rows are kept.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

from torch import nn

from prunus.core.errors import BadInput
from prunus.core.registry import recovery
from prunus.recovery.training import Report, train

FEW, MUCH_LARGER = 0.3, 2  # kept share of the card; how many times as large is our own reading of "much larger"


@recovery(needs=("logits",), card="kd-data-pruning")
def distill(
    model: nn.Module,
    data: Any,
    *,
    step: Any = None,
    steps: int | None = None,
    epochs: int | None = None,
    lr: float = 0.01,
    batch: int = 128,
    seed: int = 0,
    optimizer: Literal["sgd", "adamw"] = "sgd",
    schedule: Literal["constant", "cosine", "step", "onecycle"] = "cosine",
    weight_decay: float = 5e-4,
    warmup: int = 0,
    alpha: float | Literal["auto"] = "auto",
    kept: float = 1.0,
    temperature: float = 4.0,
    norms_only: bool = False,
    masks: Any = None,
    teacher: nn.Module | None = None,
    report: Report | None = None,
    **more: Any,
) -> nn.Module:
    """Train `model` in place on (1 - alpha) CE + alpha T^2 KL(teacher || student) and return it.

    Args:
        step: adapter of a batch; inferred from the first one.
        steps: optimizer steps; or give epochs. Neither: one epoch.
        epochs: passes over the data.
        lr: peak learning rate.
        batch: rows per step.
        seed: of order, augmentation and dropout.
        optimizer: sgd (momentum 0.9) or adamw.
        schedule: of the learning rate.
        weight_decay: of all trained parameters.
        warmup: steps of straight rise.
        alpha: weight of the teacher, 0 to 1, or auto.
        kept: share of the rows that is kept, for alpha = auto.
        temperature: T.
        norms_only: train only normalisation layers.
        masks: train.Masks, or parameter name -> bool: what stays zero.
        teacher: the dense model; kept in evaluation mode, never trained.
        report: filled with steps, samples, cpu_seconds and the last epoch's loss.
        **more: other arguments of `train.loop.fit`.
    """
    if teacher is None:
        raise BadInput("distillation needs a teacher: pass teacher=, the dense model")
    if teacher is model:
        raise BadInput("the teacher is the model itself; pass the dense model, or a copy made before pruning in place")
    settings = {"step": step, "lr": lr, "batch": batch, "seed": seed, "optimizer": optimizer, "schedule": schedule}
    settings |= {"weight_decay": weight_decay, "warmup": warmup, **more}
    settings |= lessons(model, teacher, alpha=alpha, kept=kept, temperature=temperature)
    mode = teacher.training
    try:
        return train(
            model, data, steps=steps, epochs=epochs, masks=masks, norms_only=norms_only, report=report, **settings
        )
    finally:
        teacher.train(mode)


def lessons(
    model: nn.Module, teacher: nn.Module, *, alpha: float | str, kept: float, temperature: float
) -> dict[str, Any]:
    """What `train.loop.fit` is told of a teacher: teacher, distill, temperature.

    Warns where few rows are kept and the teacher is much larger: the paper finds that smaller ones then teach better.
    """
    if kept < FEW and _size(teacher) > MUCH_LARGER * _size(model):
        message = (
            f"{kept:.0%} of the rows are kept and the teacher is much larger than its student: with so few rows a "
        )
        warnings.warn(message + "teacher of the student's size or below is the better one", UserWarning, stacklevel=3)
    return {"teacher": teacher, "distill": weight_of_teacher(alpha, kept), "temperature": temperature}


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def weight_of_teacher(alpha: float | str, kept: float) -> float:
    """alpha, or our rule for `auto`: 0.5 on all rows, nearly 1 on few."""
    if not 0 < kept <= 1:
        raise BadInput(f"kept is the share of rows that stay, in (0, 1], not {kept}")
    if alpha == "auto":
        return min(1.0, max(0.5, 1 - kept / 2))
    if not isinstance(alpha, (int, float)) or not 0 <= alpha <= 1:
        raise BadInput(f"alpha must be auto or a number in [0, 1], not {alpha!r}")
    return float(alpha)
