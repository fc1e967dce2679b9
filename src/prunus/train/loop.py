"""`fit`: the one training loop. Whatever trains inside prunus (scores, recovery, experiments) goes through it.

It never invents a recipe: every choice is an argument, and what ran is in the history. Deterministic given
(seed, threads): the order of rows, augmentation and dropout are drawn from the seed by name and step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput, SplitError
from prunus.core.rng import torch_fork
from prunus.train.engine import Augment, History, Length, RowWeights, Run, Saver
from prunus.train.feed import Feed
from prunus.train.masks import Masks
from prunus.train.optim import Optimizer, Schedule, curve, make_optimizer
from prunus.train.progress import Bar
from prunus.train.step import LossFn, StepFn

__all__ = ["History", "fit"]


def fit(
    model: nn.Module,
    data: Any,
    *,
    step: StepFn | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    start: int = 0,
    optimizer: Optimizer = "sgd",
    lr: float = 0.1,
    momentum: float = 0.9,
    nesterov: bool = True,
    weight_decay: float = 5e-4,
    schedule: Schedule = "cosine",
    warmup: int = 0,
    batch: int = 128,
    seed: int = 0,
    order_seed: int | None = None,
    weights: Mapping[Any, float] | np.ndarray | None = None,
    masks: Masks | None = None,
    loss_fn: LossFn | None = None,
    teacher: nn.Module | None = None,
    distill: float = 0.9,
    temperature: float = 4.0,
    augment: Augment | None = None,
    clip: float | None = None,
    dynamic: Any = None,
    events: Any = None,
    on_event: Callable[[Any, nn.Module], Mapping[str, Tensor] | None] | None = None,
    record: Any = None,
    snapshots: Sequence[int] = (),
    checkpoint: str | Path | None = None,
    save_every: int | None = None,
    device: str | torch.device = "cpu",
    channels_last: bool = False,
    progress: bool | None = None,
) -> History:
    """Train `model` in place and leave it in evaluation mode.

    Args:
        model: on any device; moved to `device`.
        data: see `train.feed.Feed`.
        step: adapter of a batch; inferred from the first batch.
        epochs, steps: length; exactly one. `steps` runs over epoch borders.
        start: first step of the schedule to run (rewinding: `start=k` trains the remaining `steps - k` in their order).
        optimizer: "sgd", "adamw", a function of the parameters, or an optimizer.
        lr, momentum, nesterov, weight_decay: for the named optimizers.
        schedule: "constant", "cosine", "step" (x0.1 at 1/2 and 3/4), "onecycle" or a function of progress in [0, 1].
        warmup: steps of straight rise before it.
        batch: rows per step.
        seed: of augmentation and dropout, and of the order unless `order_seed` is given.
        weights: loss weight by id, or an array in the order of the data's ids; the mean is over rows, not weights. By
            default those that the data carry (`loss_weights`, as `plan.apply` leaves them).
        masks: applied inside every optimizer step; by default those of `on_event`, if it has some.
        loss_fn: `(logits, y) -> [B]` for (x, y) batches.
        teacher: distillation; the loss is (1 - distill) own + distill T^2 KL(teacher, student).
        augment: `(x, generator) -> x`, on whole batches.
        clip: norm of the gradient, after weighting.
        dynamic: `epoch(t) -> EpochPlan(ids, weights)`, `seen(ids, loss)`.
        events, on_event: a schedule's `at(step, total)`, asked before the first step (0) and after every optimizer step;
            each event is given to `on_event(event, model)` while the gradients of the last batch are still there, and
            masks that it returns replace `masks`. See `flow.while_training`.
        record: a `Recorder`.
        snapshots: steps before which the state dict is copied into the history.
        checkpoint: file to write each epoch, or each `save_every` steps, and to resume from when it exists.
        channels_last: faster convolutions on CPU.
        progress: a bar on the terminal; by default only when there is one.

    Raises:
        NonFinite: the loss left the finite numbers; names the step and the rows.
        SplitError: the data are a test split.
    """
    _check(data, epochs, steps)
    masks = getattr(on_event, "masks", None) if masks is None else masks
    masks = Masks(model, {}) if masks is None and events is not None else masks
    model.to(device)
    if channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    engine = make_optimizer(
        model, optimizer, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay
    )  # fmt: skip
    feed = Feed(data, batch)
    weights = getattr(data, "loss_weights", None) if weights is None else weights
    run = Run(
        model, engine, feed, step, loss_fn, teacher, distill, temperature, augment, clip, dynamic, events, on_event,
        record, masks, torch.device(device), channels_last, seed, seed if order_seed is None else order_seed,
        Length(epochs, steps, start), curve(schedule), warmup, RowWeights(weights, feed.ids), frozenset(snapshots),
    )  # fmt: skip
    try:
        with torch_fork(seed, "fit"), Bar(progress, "fit") as bar:
            if masks is not None:
                masks.attach(engine)
            return run.loop(Saver(checkpoint, save_every), bar)
    finally:
        if masks is not None:
            masks.detach()
        model.eval()


def _check(data: Any, epochs: int | None, steps: int | None) -> None:
    if (epochs is None) == (steps is None):
        raise BadInput(f"give exactly one of epochs and steps (got epochs={epochs}, steps={steps})")
    if min(epochs or 0, steps or 0) < 0:
        raise BadInput(f"epochs and steps can't be negative (got epochs={epochs}, steps={steps})")
    if getattr(data, "role", None) == "test":
        raise SplitError("these rows have the role 'test' and can't be trained on; use the fit rows")
