"""Lottery jackpots: a mask is searched over weights that stay as they were trained (Zhang et al. 2021, 2023).

Removes: weights. None is changed; norms follow (their statistics, and scale and shift unless they are frozen).
Needs: labelled rows of role fit, a trained model.
Cost: `steps` forward and backward passes; one score and one momentum for each weight. The result is a mask and the norms.
Departures: what moves in or out is chosen by rank with fixed ties, where the released rule compares with a threshold and skips the
 step when equal scores make the two sides unequal. The restriction (1 - t)^4 is not rounded up, which makes it 1 throughout in the
 released code (parity="official"). No decay on scores: it moves none past another. Layer by layer counts are those of one cut by
 magnitude (allocate="global"), uniform, erk, ...; the last matrix stays whole unless `head="pruned"`. Much of what a short search
 gains is norms that adapt: compare with the magnitude mask after `px.recover(how="bn_stats")`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from prunus.core.budget import Budget
from prunus.core.errors import BadInput
from prunus.core.plan import Plan
from prunus.core.registry import search
from prunus.train.copies import copied
from prunus.train.kinds import BatchNorm
from prunus.weights.masked import counts_of, masked_plan, top_mask, write_masked

OFF = 0.99  # first score of what is off; 1 is that of what is on


def swapped(scores: Tensor, mask: Tensor, share: float) -> tuple[Tensor, int]:
    """The mask after the best of those that want in have changed places with the worst of those that should go.

    Args:
        scores: in the shape of the mask.
        mask: bool; how many are on stays as it is.
        share: of the places that may change, rounded up; a single one always may.

    Returns:
        The new mask, and how many changed places.
    """
    flat, on = scores.detach().cpu().numpy().reshape(-1), mask.cpu().numpy().reshape(-1)
    order = np.lexsort((np.arange(flat.size), ~on, -flat))  # of equal scores those that are on come first
    best = np.zeros(flat.size, dtype=bool)
    best[order[: int(on.sum())]] = True
    enter, leave = order[(best & ~on)[order]], order[(on & ~best)[order]][::-1]
    count = 1 if enter.size == 1 else math.ceil(enter.size * share)
    new = on.copy()
    new[enter[:count]], new[leave[:count]] = True, False
    return torch.from_numpy(new).reshape(mask.shape).to(mask.device), count


class MaskSearch(torch.optim.Optimizer):
    """SGD on the scores of frozen weights; between steps every matrix holds its masked weights.

    Args:
        parameters: all that want gradients.
        masks: matrix -> first mask, bool.
        norms: parameters that are trained beside the masks; all others stay as they are.
        lr, momentum: of scores; norms share them.
        restrict: step, counted from 0 -> share of the places that may change; None takes the best scores whatever changes.
        off: first score of what is off.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        masks: Mapping[nn.Parameter, Tensor],
        *,
        norms: Iterable[nn.Parameter] = (),
        lr: float = 0.1,
        momentum: float = 0.9,
        restrict: Callable[[int], float] | None = None,
        off: float = OFF,
    ) -> None:
        super().__init__(list(parameters), {"lr": lr})
        self.masks = dict(masks)
        self.weights = {one: one.detach().clone() for one in masks}
        self.scores = {one: nn.Parameter(torch.where(mask, 1.0, off).to(one)) for one, mask in masks.items()}
        self.swaps = 0
        self._sgd = torch.optim.SGD([*self.scores.values(), *norms], lr, momentum)
        self._restrict, self._done = restrict, 0
        write_masked(self.weights, self.masks)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of the scores, and the places that change; `swaps` says how many."""
        for one, score in self.scores.items():
            score.grad = None if one.grad is None else one.grad * self.weights[one]
        self._sgd.param_groups[0]["lr"] = self.param_groups[0]["lr"]
        self._sgd.step()
        share = 1.0 if self._restrict is None else self._restrict(self._done)
        found = {one: swapped(self.scores[one], mask, share) for one, mask in self.masks.items()}
        self.masks = {one: mask for one, (mask, _) in found.items()}
        self.swaps = sum(count for _, count in found.values())
        self._done += 1
        write_masked(self.weights, self.masks)


@search(unit="weights", card="lottery-jackpots")
def lottery_jackpots(
    prunable: Any,
    budget: Budget,
    *,
    fit: Callable[..., Any],
    steps: int = 200,
    lr: float = 0.1,
    momentum: float = 0.9,
    restriction: Literal["short", "none"] = "short",
    norms: Literal["trained", "frozen"] = "trained",
    head: Literal["whole", "pruned"] = "whole",
    allocate: str = "global",
    batch: int = 128,
    parity: Literal["paper", "official"] = "paper",
) -> Plan:
    """A mask over the weights as they are.

    Args:
        prunable: the model.
        budget: share or number of weights that stay.
        fit: the training loop on fit rows.
        steps: of the search.
        lr: of scores, peak of a cosine.
        momentum: of scores.
        restriction: short lets the share (1 - t)^4 of the places change at time t of 0..1; none takes the best scores.
        norms: whether scale and shift of batch norms are trained; their statistics follow in any case.
        head: whether the last matrix stays whole.
        allocate: allocator of weights over matrices; scores are magnitudes. global is one cut over all.
        batch: rows per step.
        parity: official rounds the restriction up to 1, as released.

    Returns:
        A Plan whose edits are norms only; `changed` in its provenance is the share of mask entries that are not the first mask's.

    Raises:
        BadInput: the last matrix alone is more than the budget.
    """
    model = copied(prunable.model)
    groups = prunable.groups("weights")
    counts = counts_of(model, groups, budget, allocate, _whole(groups, budget) if head == "whole" else None)
    matrices = {name: model.get_parameter(name) for name in counts}
    first = {one: top_mask(one, one.numel() - counts[name]) for name, one in matrices.items()}
    dense = {one: one.detach().clone() for one in first}
    engine: list[MaskSearch] = []
    short = restriction == "short" and parity == "paper"

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        given = list(parameters)
        own = norm_parameters(model, given) if norms == "trained" else []
        restrict = (lambda step: (1 - step / steps) ** 4) if short else None
        engine.append(MaskSearch(given, first, norms=own, lr=lr, momentum=momentum, restrict=restrict))
        return engine[0]

    fit(model, steps=steps, optimizer=make, lr=lr, batch=batch)
    masks = {name: engine[0].masks[model.get_parameter(name)] for name in counts}
    moved = sum(int((engine[0].masks[one] != mask).sum()) for one, mask in first.items())
    with torch.no_grad():
        for one, weight in dense.items():
            one.copy_(weight)  # nothing but norms is an edit
    entries = sum(mask.numel() for mask in masks.values())
    return masked_plan(prunable, budget, masks, trained=model, provenance={"changed": moved / max(entries, 1)})


def norm_parameters(model: nn.Module, parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Those of `parameters` that belong to batch norms."""
    of_norms = {
        p for module in model.modules() if isinstance(module, BatchNorm) for p in module.parameters(recurse=False)
    }
    return [one for one in parameters if one in of_norms]


def _whole(groups: Iterable[Any], budget: Budget) -> dict[str, int]:
    """A floor that keeps the last matrix whole."""
    listed = list(groups)
    last, size = listed[-1], sum(group.size for group in listed)
    if len(listed) > 1 and last.size > budget.count(size):
        raise BadInput(
            f"{last.name} has {last.size} weights, more than the {budget.count(size)} that {budget} keeps of all: "
            "set head='pruned'"
        )
    return {last.name: last.size}
