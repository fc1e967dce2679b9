"""Spatial attention: the pruned model looks where the dense one looks (spatial attention distillation for detectors, 2022).

Removes: nothing; masked weights stay zero.
Needs: labelled fit rows, and the dense model as teacher; channel numbers may differ.
Cost: fine-tuning, and one teacher forward per batch.
Departures: no code was released; the form is that of attention transfer: mean of squares over channels, L2 norm 1, squared
 distance, summed over layers and divided by their number. The weight of the term is what makes it 10 % of the task's own
 loss on the first batch (auto). Layers are, unless named, the last outputs of the three coarsest scales above 1 x 1 outside
 of heads: strides 8, 16 and 32 of a detector. No distillation of logits is added; list distill after it for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput, UnknownName
from prunus.core.registry import recovery
from prunus.graph.scales import heights, part
from prunus.prunables.roles import require_role
from prunus.recovery.training import Report, train
from prunus.train.attention import gaps
from prunus.train.modes import evaluating
from prunus.train.ordered import ordered
from prunus.train.step import Step, StepFn, infer_step, plain, xy_step

SHARE = 0.1  # of the task's loss, on the first batch
SCALES = 3
Maps = dict[str, list[Tensor]]


@recovery(needs=(), card="group-channel-sad")
def spatial_attention(
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
    layers: tuple[str, ...] = (),
    weight: float | Literal["auto"] = "auto",
    power: float = 2.0,
    masks: Any = None,
    teacher: nn.Module | None = None,
    report: Report | None = None,
    **more: Any,
) -> nn.Module:
    """Train `model` in place on its own loss plus weight times the gap of attentions, and return it.

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
        layers: modules with outputs `[B, C, H, W]`, of the same names in both models.
        weight: of the mean gap over layers, or auto: 10 % of the task's loss on the first batch.
        power: of each activation.
        masks: train.Masks, or parameter name -> bool: what stays zero.
        teacher: the dense model; kept in evaluation mode, never trained.
        report: filled with steps, samples, cpu_seconds and the last epoch's loss.
        **more: other arguments of `train.loop.fit`.
    """
    require_role(data, {"fit"}, what="recovery")
    if teacher is None or teacher is model:
        raise BadInput("spatial attention needs the dense model: pass teacher=, not the model itself")
    if weight != "auto" and not weight >= 0:
        raise BadInput(f"weight must be auto or 0 or more, not {weight!r}")
    first = plain(next(iter(ordered(data, 1))))
    own: StepFn = step or infer_step(first)
    names = tuple(layers) or scale_ends(teacher, lambda: own(teacher, first))
    settings = {"lr": lr, "batch": batch, "seed": seed, "optimizer": optimizer, "schedule": schedule}
    loss_fn = more.pop("loss_fn", None)
    settings |= {"weight_decay": weight_decay, "warmup": warmup, **more}
    if loss_fn is not None:
        if own is not xy_step:
            raise BadInput("loss_fn is for batches of (x, y): give the loss in step=")
        own = partial(xy_step, loss_fn=loss_fn)
    with evaluating(teacher), keeping(model, names) as seen, keeping(teacher, names) as shown:
        lesson = _Lesson(own, teacher, seen, shown, weight, power)
        return train(
            model, data, steps=steps, epochs=epochs, masks=masks, norms_only=False, report=report, step=lesson, **settings
        )  # fmt: skip


class _Lesson:
    """A step whose loss has the gap of attentions added, row by row."""

    def __init__(
        self, own: StepFn, teacher: nn.Module, seen: Maps, shown: Maps, weight: float | str, power: float
    ) -> None:
        self.own, self.teacher, self.seen, self.shown, self.power = own, teacher, seen, shown, power
        self.weight = None if isinstance(weight, str) else float(weight)

    def __call__(self, model: nn.Module, batch: Any) -> Step:
        for maps in (*self.seen.values(), *self.shown.values()):
            maps.clear()
        found = self.own(model, batch)
        if found.loss is None:
            raise BadInput("spatial attention is added to the task's loss: give labels, or a step that returns loss")
        with torch.no_grad():
            self.own(self.teacher, batch)
        each = [gaps(self.seen[name], self.shown[name], self.power) for name in self.seen]
        gap = torch.stack(each).mean(0)
        if self.weight is None:
            there = float(gap.detach().mean())
            self.weight = SHARE * float(found.loss.detach().mean()) / there if there > 0 else None
        return replace(found, loss=found.loss + (self.weight or 0.0) * gap.to(found.loss))


@contextmanager
def keeping(model: nn.Module, names: Sequence[str]) -> Iterator[Maps]:
    """Outputs of the named modules, call by call, while the block runs."""
    modules = dict(model.named_modules())
    if unknown := [name for name in names if name not in modules]:
        raise UnknownName("module with feature maps", unknown[0], modules)
    kept: Maps = {name: [] for name in names}
    handles = [modules[name].register_forward_hook(_keep(kept[name])) for name in names]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _keep(into: list[Tensor]) -> Any:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        into.append(output)

    return hook


def scale_ends(model: nn.Module, call: Any) -> tuple[str, ...]:
    """The last module of each of the three coarsest scales above 1 x 1, heads left out; the finest first."""
    last = {height: name for name, height in heights(model, call).items() if height > 1 and part(name) != "head"}
    if not last:
        raise BadInput("no module of this model gives feature maps [B, C, H, W]: name some in layers=")
    return tuple(last[height] for height in sorted(last)[:SCALES][::-1])
