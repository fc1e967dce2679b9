"""AST: masks that move while the dense model teaches, pruned weights decaying ever harder (Huang et al. 2024).

Removes: weights, N:M or a share of each output's inputs. The plan carries the weights that training left.
Needs: the fit rows; the dense model is start and teacher. With hidden > 0 blocks of both are compared too.
Cost: steps * batch forward and backward passes and as many teacher forwards; a new mask every few steps.
Departures: written from the paper; of the released code the GPT-2 path inverts an integer mask, so that its decay makes weights
 grow, which is not reproduced. Scores are magnitudes: Wanda's, calibrated once, are not offered. The path beside a matrix
 (boost) reads fixed block sums; the released runs train that projection too. The last `settle` share of the steps keeps its mask. A
 share is rounded down for each output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from prunus.core.budget import Budget
from prunus.core.counted import counted
from prunus.core.edits import Edit, LowRank, SetWeight
from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.core.plan import Kept, Plan
from prunus.core.registry import search
from prunus.graph.blocks import block_of
from prunus.schedule.event import Event
from prunus.signals.scan import transposed
from prunus.train.copies import copied
from prunus.train.hidden import HiddenLesson
from prunus.train.modes import evaluating
from prunus.train.sr_ste import DecayingAdamW, Pattern, Straight, ramp


@search(unit="weights", card="ast")
def ast(
    prunable: Any,
    budget: Budget,
    *,
    fit: Callable[..., Any],
    steps: int = 200,
    lr: float = 2e-4,
    batch: int = 32,
    decay: float = 6e-5,
    rise: float = 0.25,
    every: int = 10,
    settle: float = 0.1,
    distill: float = 0.67,
    temperature: float = 2.0,
    hidden: float = 0.0,
    boost: int = 0,
    weight_decay: float = 0.0,
    layers: Literal["all", "blocks"] = "all",
) -> Plan:
    """Masks and weights after adaptive sparse training.

    Args:
        prunable: the model.
        budget: `2:4`, `50% weights`.
        fit: the training loop on fit rows.
        steps: of training.
        lr: peak learning rate, falling by a cosine.
        batch: rows per step.
        decay: pull of pruned weights to zero at the end of the rise.
        rise: share of the steps over which it grows from 0.
        every: steps between two masks.
        settle: share of the steps, the last ones, in which the mask stays.
        distill: weight of the teacher; the rest is the task's own loss.
        temperature: of the teacher's and the student's logits.
        hidden: weight of the gap of hidden states after every block.
        boost: consecutive inputs whose sum feeds a path beside each matrix, 1 / boost of its size; 0 for none.
        weight_decay: of everything that trains.
        layers: all matrices, or those inside repeated blocks.

    Returns:
        A Plan whose edits are the trained weights, and the paths.

    Raises:
        BudgetUnreachable: an output would keep nothing.
        BadInput: a number of weights, or hidden states of a model without blocks.
    """
    if boost < 0 or boost == 1 or every < 1:
        raise BadInput(f"boost is 0 or a block of 2 inputs or more, every is 1 or more, not {boost} and {every}")
    groups = [group for group in prunable.groups("weights") if layers == "all" or block_of(group.name)]
    if not groups:
        raise BadInput("this model has no repeated blocks: use layers='all'")
    pattern = pattern_of(budget, groups, prunable.model)
    model = copied(prunable.model)
    if pattern.nm is None and pattern.share == 1.0:
        return _plan(budget, {group.name: np.ones(group.size, dtype=bool) for group in groups}, ())
    parts = {group.name: masked(model, group.name, pattern, boost) for group in groups}
    last = steps - int(steps * settle)

    def renew(event: Event, _: nn.Module) -> None:
        for name, part in parts.items():
            part.update(_original(model, name))

    def optimizer(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        moving = {(w := _original(model, name)): _mask(part, w) for name, part in parts.items()}
        course = lambda step: ramp(step, int(steps * rise), decay)  # noqa: E731 # one use, next line
        return DecayingAdamW(parameters, moving, course, lr=lr, weight_decay=weight_decay)

    settings: dict[str, Any] = {"optimizer": optimizer, "batch": batch, "steps": steps, "on_event": renew}
    settings |= {"events": Clock(every, last), "schedule": "cosine", "warmup": steps // 20}
    with evaluating(prunable.model):
        if hidden > 0:
            names = [child for chain in prunable.chains for child in chain.children]
            lesson = HiddenLesson(prunable.model, names, hidden, distill, temperature, step=prunable.step)
            fit(model, step=lesson, **settings)
        else:
            fit(model, teacher=prunable.model, distill=distill, temperature=temperature, **settings)
    return finished(prunable.model, model, budget, parts)


class Clock:
    """A new mask every so many steps, until the last one that may have it."""

    def __init__(self, every: int, last: int) -> None:
        self.every, self.last = every, last

    def at(self, step: int, total: int) -> Event | None:
        """An event where a mask is due."""
        return Event("replan") if step and step % self.every == 0 and step <= self.last else None


def pattern_of(budget: Budget, groups: Any, model: nn.Module) -> Pattern:
    """The budget as what stays of each output."""
    if budget.nm:
        return Pattern(nm=budget.nm)
    if not budget.term.relative:
        raise BadInput(f"ast holds a share in every output: write '50% weights' or '2:4', not {budget}")
    share = 1.0 - budget.drop_count(10**9) / 10**9
    for group in groups:
        weight = model.get_parameter(group.name)
        outputs = weight.shape[1] if transposed(model.get_submodule(group.name.rpartition(".")[0])) else weight.shape[0]
        inputs = group.size // outputs
        if int(inputs * share + 1e-9) < 1:
            raise BudgetUnreachable(
                f"{budget}: an output of {group.name} would keep none of {inputs} weights", nearest=f"1 of {inputs}"
            )
    return Pattern(share)


def masked(model: nn.Module, name: str, pattern: Pattern, boost: int) -> Straight:
    """Let a matrix compute under a moving mask."""
    module = model.get_submodule(name.rpartition(".")[0])
    part = Straight(module.get_parameter("weight"), pattern, stored=transposed(module), width=boost)
    parametrize.register_parametrization(module, "weight", part, unsafe=True)
    return part


def finished(dense: nn.Module, model: nn.Module, budget: Budget, parts: dict[str, Straight]) -> Plan:
    """The plan of a trained model: masks, weights, paths, and whatever else training changed."""
    edits: list[Edit] = []
    kept: dict[str, np.ndarray] = {}
    for name, part in parts.items():
        weight = _original(model, name)
        kept[name] = part.mask.cpu().numpy()
        edits.append(SetWeight(name, _array(weight * part.kept(weight))))
        if part.path is not None:
            edits.append(LowRank(name.rpartition(".")[0], _array(part.projection()), _array(part.path)))
    trained, before = model.state_dict(), dense.state_dict()
    for name in before:
        if name in parts or name not in trained or not before[name].is_floating_point():
            continue
        if not torch.equal(trained[name], before[name].to(trained[name])):
            edits.append(SetWeight(name, _array(trained[name])))
    return _plan(budget, kept, tuple(edits))


def _original(model: nn.Module, name: str) -> nn.Parameter:
    return model.get_parameter(f"{name.rpartition('.')[0]}.parametrizations.weight.original".removeprefix("."))


def _mask(part: Straight, weight: nn.Parameter) -> Callable[[], torch.Tensor]:
    return lambda: part.kept(weight)


def _array(value: torch.Tensor) -> np.ndarray:
    return value.detach().float().cpu().contiguous().numpy()


def _plan(budget: Budget, kept: dict[str, np.ndarray], edits: tuple[Edit, ...]) -> Plan:
    groups = {name: Kept.of_mask(mask) for name, mask in kept.items()}
    return Plan("weights", groups, budget, *counted("weights", groups, edits), edits)
