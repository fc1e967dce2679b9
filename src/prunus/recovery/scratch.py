"""Scratch: forget the weights that were inherited and train the pruned architecture anew (Liu et al. 2019).

Removes: nothing; masked weights stay zero.
Needs: the fit rows; the dense model (as teacher), for budget B.
Cost: E: a dense training's epochs at the pruned network's price. B: up to the FLOPs of the dense training.
Departures: the released Scratch-B of masked networks counts the FLOPs of two dense ones, so that it trains E epochs; here masks
 count. Its masks are read off weights that are zero, so that a weight which becomes zero is frozen; here masks are told. Layers are
 drawn by their own rule; where convolutions are masked, from a normal distribution with the variance 2 / n, n the weights that
 remain for each input channel, as released.

The control that every fine-tuned structured result owes: if training from scratch does as well, the architecture was worth
something, not the weights. Compare at equal augmentation, with pretraining counted: a network that was pretrained for hours is
not beaten by minutes of scratch. Above 80 to 90 % of masked weights on large data the paper itself finds fine-tuning better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.core.registry import recovery
from prunus.core.rng import torch_rng
from prunus.graph.flops import count_flops
from prunus.prunables.example import example_of
from prunus.prunables.model import ModelPrunable
from prunus.recovery.training import Report, train
from prunus.train.initialise import initialise
from prunus.train.kinds import Conv
from prunus.train.masks import Masks


@recovery(needs=(), card="rethinking-value")
def scratch(
    model: nn.Module,
    data: Any,
    *,
    step: Any = None,
    budget: Literal["E", "B"] = "B",
    epochs: int | None = None,
    steps: int | None = None,
    most: float | None = None,
    lr: float = 0.1,
    batch: int = 64,
    seed: int = 0,
    optimizer: Literal["sgd", "adamw"] = "sgd",
    schedule: Literal["constant", "cosine", "step", "onecycle"] = "step",
    weight_decay: float = 1e-4,
    warmup: int = 0,
    masks: Any = None,
    teacher: Any = None,
    distill: float = 0.0,
    report: Report | None = None,
    **more: Any,
) -> nn.Module:
    """Draw `model` anew in place, train it and return it, in evaluation mode.

    Args:
        step: adapter of a batch; inferred from the first one.
        budget: E, as many epochs as the dense training; B, as many FLOPs.
        epochs: of the DENSE training, passes over the data; or give steps.
        steps: of the dense training.
        most: B only: at most so many times its length; the paper doubles it at most on ImageNet.
        lr: peak learning rate; take that of the dense training.
        batch: rows per step.
        seed: of weights, order, augmentation and dropout.
        optimizer: sgd (momentum 0.9) or adamw.
        schedule: of the learning rate; step divides it by ten at one half and at three quarters.
        weight_decay: of all parameters.
        warmup: steps of straight rise.
        masks: train.Masks, or parameter name -> bool: what stays zero.
        teacher: the dense model: what its FLOPs are, and for `distill`.
        distill: weight of the teacher's outputs in the loss; give scratch what the fine-tuned model got.
        report: filled with steps, samples, cpu_seconds, the last epoch's loss and, for B, flop_ratio.
        **more: other arguments of `train.loop.fit` (augment, momentum, nesterov, ...).

    Raises:
        BadInput: neither epochs nor steps, or no dense model for budget B.
    """
    if (epochs is None) == (steps is None):
        raise BadInput(f"scratch takes the length of the dense training: epochs or steps, got {epochs} and {steps}")
    kept = masks.named if isinstance(masks, Masks) else dict[str, Tensor](masks or {})
    ratio = 1.0
    if budget == "B":
        if teacher is None:
            raise BadInput("scratch with budget B spends the FLOPs of the dense training: give teacher=the dense model")
        dense = count_flops(ModelPrunable(teacher, example_of(data, teacher)).graph)
        shares = {name.rpartition(".")[0]: float(mask.double().mean()) for name, mask in kept.items()}
        own = count_flops(ModelPrunable(model, example_of(data, model)).graph, shares)
        ratio = dense / own
        length = scratch_length(epochs or steps or 0, dense, own, most=most)
    else:
        length = epochs or steps or 0
    draw(model, kept, seed)
    settings: dict[str, Any] = {"step": step, "lr": lr, "batch": batch, "seed": seed, "optimizer": optimizer}
    settings |= {"schedule": schedule, "weight_decay": weight_decay, "warmup": warmup, **more}
    if distill:
        settings |= {"teacher": teacher, "distill": distill}
    times = {"epochs": length, "steps": None} if epochs is not None else {"steps": length, "epochs": None}
    given = Masks(model, kept) if kept else None
    trained = train(model, data, masks=given, norms_only=False, report=report, **times, **settings)
    if report is not None:
        report["flop_ratio"] = ratio
    return trained


def scratch_length(length: int, dense: float, pruned: float, *, most: float | None = None) -> int:
    """Epochs (or steps) of Scratch-B: as many whole ones as the dense training's FLOPs pay for, never fewer than it had.

    Args:
        length: of the dense training.
        dense: FLOPs of the dense network, of one row.
        pruned: of the pruned one.
        most: at most so many times the length.
    """
    if length < 1 or not dense > 0 or not pruned > 0 or (most is not None and most < 1):
        raise BadInput(f"length, FLOPs and most are at least 1; got {length}, {dense:g}, {pruned:g} and {most}")
    ratio = max(dense / pruned, 1.0)
    return int(length * (ratio if most is None else min(ratio, most)))


def milestones(epochs: int) -> tuple[int, int]:
    """Epochs at which the learning rate is divided by ten."""
    return int(epochs * 0.5), int(epochs * 0.75)


def sparse_std(mask: Tensor) -> float:
    """Standard deviation of the weights that a masked convolution starts with: sqrt(2 / n), n those that stay per input channel.

    Args:
        mask: `[out, in, ...]`, not zero where a weight stays.
    """
    stays = int((mask != 0).sum())
    if mask.dim() < 2 or not stays:
        raise BadInput(
            f"a mask [out, in, ...] that keeps something is needed, not {list(mask.shape)} with {stays} kept"
        )
    return math.sqrt(2 / (stays / mask.shape[1]))


def draw(model: nn.Module, masks: Mapping[str, Tensor], seed: int) -> None:
    """New weights in place: by each layer's own rule, masked convolutions by the variance of what their mask leaves.

    Frozen parameters (`requires_grad` off) stay as they are.
    """
    frozen = {parameter: parameter.detach().clone() for parameter in model.parameters() if not parameter.requires_grad}
    initialise(model, seed)
    for name, mask in masks.items():
        module = model.get_submodule(name.rpartition(".")[0])
        if isinstance(module, Conv):
            with torch.no_grad():
                drawn = torch.randn(mask.shape, generator=torch_rng(seed, f"scratch/{name}")) * sparse_std(mask)
                module.weight.copy_(drawn * mask)
    with torch.no_grad():
        for parameter, value in frozen.items():
            parameter.copy_(value)
