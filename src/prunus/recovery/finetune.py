"""Fine-tuning: train on with the task's own loss (the recovery every other one is compared with).

Removes: nothing; masked weights stay zero.
Needs: the fit rows.
Cost: steps * batch forward and backward passes.
Departures: the control is the DENSE model with the same steps (the flow runs it). No recipe is invented: length and learning rate
    are the caller's, the defaults are those of a short run.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from prunus.core.registry import recovery
from prunus.recovery.training import Report, train


@recovery(needs=())
def finetune(
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
    norms_only: bool = False,
    masks: Any = None,
    teacher: Any = None,
    report: Report | None = None,
    **more: Any,
) -> nn.Module:
    """Train `model` in place and return it, in evaluation mode.

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
        norms_only: train only weights and biases of normalisation layers (PERP's cheapest subset).
        masks: train.Masks, or parameter name -> bool: what stays zero.
        teacher: not read here; see `distill`.
        report: filled with steps, samples, cpu_seconds and the last epoch's loss.
        **more: other arguments of `train.loop.fit` (augment, dynamic, weights, checkpoint, ...).
    """
    settings = {"step": step, "lr": lr, "batch": batch, "seed": seed, "optimizer": optimizer, "schedule": schedule}
    settings |= {"weight_decay": weight_decay, "warmup": warmup, **more}
    return train(model, data, steps=steps, epochs=epochs, masks=masks, norms_only=norms_only, report=report, **settings)
