"""MaskSparsity: a penalty on the norm scales of the channels that will go, and on no others (Jiang et al. 2021).

Removes: channels that a norm with scale and shift follows; groups without one stay whole.
Needs: labelled rows of role fit, a trained model. The plan carries the weights that training left.
Cost: steps (and global_steps) * batch forward and backward passes.
Departures: channels are chosen by the budget, from the mean |scale| over the norms of a group; the released thresholds
 (a fixed one, or a share of energy), with their vote for groups that several norms scale, decide alone under
 threshold="fixed" or "energy", and are refused where they keep more than the budget. Weight decay leaves scales alone,
 or the others would not be unpenalised. A channel with scale 0 still gives its shift, a constant that the cut takes
 away (ResNet-20 at 60 % MACs: 76 % before the cut, 10 % after it): the shifts of what goes are penalised
 too; parity="official" penalises scales only, then re-estimate norms after the cut (recovery bn_stats). Frozen norms are
 refused. Strength 5e-4 is the released one for 100 epochs: strength * lr * steps must exceed the scales to be killed, so
 short runs need more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from prunus.allocate.by_cost import Level, by_cost
from prunus.channels.bn_scale import scale_members
from prunus.channels.scale_threshold import energy_threshold, kept_above, vote
from prunus.core.budget import Budget
from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite, UnknownName
from prunus.core.plan import Kept, Plan
from prunus.core.prunable import Group
from prunus.core.registry import search
from prunus.graph.changes import changes
from prunus.graph.members import bind
from prunus.train.copies import copied
from prunus.train.penalty import Penalty, Rule

FIXED = 0.01  # the released threshold
Masks = dict[str, np.ndarray]


@search(unit="channels", card="masksparsity")
def masksparsity(
    prunable: Any,
    budget: Budget,
    *,
    fit: Callable[..., Any],
    steps: int = 200,
    global_steps: int = 0,
    lr: float = 0.02,
    strength: float = 5e-3,
    rule: Rule = "l1",
    threshold: Literal["budget", "fixed", "energy"] = "budget",
    energy: float = 1e-4,
    batch: int = 128,
    weight_decay: float = 5e-4,
    floor_share: float = 0.1,
    parity: Literal["paper", "official"] = "paper",
) -> Plan:
    """Which channels go, and weights that hardly miss them.

    Args:
        prunable: the model with its graph.
        budget: what may stay, in MACs, parameters or channels.
        fit: the training loop on fit rows.
        steps: of training with the penalty on what goes.
        global_steps: of training with the penalty on all scales first, before anything is chosen.
        lr: peak learning rate, falling by a cosine.
        strength: of the penalty.
        rule: l1, l2 or smooth_l1.
        threshold: what decides what goes: the budget, |scale| <= 0.01, or a share of energy.
        energy: the share of the squared scales of a norm that may go.
        batch: rows per step.
        weight_decay: of everything but scales.
        floor_share: least share of each group that stays.
        parity: official leaves the shifts of what goes alone.

    Returns:
        A Plan whose edits are the trained weights, in dense shape.

    Raises:
        BadInput: no group has a norm, or its scales are frozen.
        BudgetUnreachable: norms and floors, or the thresholds, keep more than the budget.
    """
    groups = {group.name: group for group in prunable.groups("channels") if scales_of(group, prunable.model)}
    if not groups:
        raise BadInput("no group of this model has a norm with scale and shift: there is nothing to penalise")
    model = copied(prunable.model)

    def trained(removed: Masks, count: int, *, shifts: bool = False) -> None:
        if count > 0 and any(mask.any() for mask in removed.values()):
            penalty = Penalty(model, penalised(groups, model, removed, shifts=shifts), strength, rule)
            engine = penalty.sgd(lr, weight_decay=weight_decay)
            fit(model, steps=count, optimizer=engine, batch=batch)

    trained({name: np.ones(group.size, dtype=bool) for name, group in groups.items()}, global_steps)
    if threshold == "budget":
        kept = by_budget(prunable, groups, model, budget, floor_share)
    else:
        kept = by_threshold(groups, model, threshold, energy)
    counts = {name: int(mask.sum()) for name, mask in kept.items()}
    planned, dense = prunable.priced(counts), prunable.priced({name: group.size for name, group in groups.items()})
    limits = budget.limits(dense)
    if not limits.met(planned):
        message = f"the thresholds keep more than {budget}: train longer or stronger"
        raise BudgetUnreachable(message, nearest=limits.shown(planned))
    trained({name: ~mask for name, mask in kept.items()}, steps, shifts=parity == "paper")
    chosen = {name: Kept.of_ids(np.flatnonzero(mask), mask.size) for name, mask in kept.items()}
    return Plan("channels", chosen, budget, planned, dense, changes(prunable.model, model))


def scales_of(group: Group, model: nn.Module) -> list[Any]:
    """Members of the group that are scales of norms."""
    return scale_members(bind(group, model))


def penalised(groups: Mapping[str, Group], model: nn.Module, removed: Masks, *, shifts: bool) -> dict[str, Tensor]:
    """Parameter name -> bool: the scales of channels that go, and their shifts if asked for."""
    parameters = dict(model.named_parameters())
    masks: dict[str, Tensor] = {}
    for name, group in groups.items():
        slots = {slot.parameter: slot for slot in group.slots}
        for member in scales_of(group, model):
            scale = parameters[member.name]
            if not scale.requires_grad:
                raise BadInput(f"{member.name} is frozen: let its scales train (requires_grad_) first")
            index = torch.from_numpy(slots[member.name].index[removed[name]].reshape(-1))
            for key in (member.name, f"{member.module}.bias") if shifts else (member.name,):
                masks.setdefault(key, torch.zeros(scale.shape, dtype=torch.bool))[index] = True
    return masks


def by_budget(
    prunable: Any, groups: Mapping[str, Group], model: nn.Module, budget: Budget, floor_share: float
) -> Masks:
    """Kept masks: the smallest mean scales of all groups go first, until the budget is met."""
    sizes = {name: np.mean([_scale(m) for m in scales_of(group, model)], axis=0) for name, group in groups.items()}
    for name, values in sizes.items():
        if not np.isfinite(values).all():
            raise NonFinite(f"scales of group {name} are NaN or infinite")
    levels = [Level(name, values, groups[name].tag) for name, values in sizes.items()]
    counts = by_cost(levels, budget, prunable.priced, floor_share=floor_share)
    masks: Masks = {}
    for name, values in sizes.items():
        first = np.lexsort((np.arange(values.size), -values))
        masks[name] = np.isin(np.arange(values.size), first[: counts[name]])
    return masks


def by_threshold(groups: Mapping[str, Group], model: nn.Module, how: str, energy: float) -> Masks:
    """Kept masks: each norm's own threshold, and the vote of the norms of a group."""
    if how not in ("fixed", "energy"):
        raise UnknownName("threshold", how, ("budget", "fixed", "energy"))
    masks: Masks = {}
    for name, group in groups.items():
        scales = [_scale(member) for member in scales_of(group, model)]
        limits = [FIXED if how == "fixed" else energy_threshold(scale, energy) for scale in scales]
        masks[name] = vote([kept_above(scale, limit) for scale, limit in zip(scales, limits)])
    return masks


def _scale(member: Any) -> np.ndarray:
    return member.weight.detach().double().abs().mean((1, 2)).cpu().numpy()
