"""GraNet: gradual pruning that also exchanges weights at every event (Liu et al. 2021); RigL and SET are settings of it.

Removes: weights: one cut over all matrices along the cubic of `cubic`, then in every matrix the smallest of those alive,
  for which as many others come that have the largest gradient, from zero.
Needs: the gradients of all weights of the last batch, those of masked weights included: they are there anyway.
Cost: at each event one ranking over all weights and two sorts of each matrix; nothing between events.
Departures: the budget is met: the released index stops one event short of it. Counts are exact and ties are broken by
  position (released: strictly above a threshold, one weight fewer, ties go). No exchange after the last step, whose
  weights would never be trained. As released, a weight that would go and is among the best to come keeps its value. Only
  magnitude and gradient were ever called in the released code; here removal goes by the criterion of the plan.
  `parity="official"` is the released cut. Not verified: the README's settings for ImageNet.

Settings of others: RigL (Evci et al. 2020) is `initial` = the budget, `exchange=0.3, last=0.0, until=0.75`; SET (Mocanu et
al. 2018) is `initial` = the budget, `growth="random", exchange=0.3, last=0.3`; gradual magnitude pruning is `exchange=0.0`.
Adam's first update of a weight that came is about three times the learning rate, as its moments start at zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from prunus.allocate.erk import densities
from prunus.core.budget import Budget
from prunus.core.errors import BadInput
from prunus.core.registry import schedule
from prunus.core.rng import Rng
from prunus.schedule.event import Event, at_share, share_of, span, step_of

if TYPE_CHECKING:
    from torch import Tensor


@schedule(card="granet", within="all", name="granet")
class GraNet:
    """Prune and regrow every `every` steps; prune from `begin` to `end`, exchange until `until`."""

    def __init__(
        self,
        budget: str | Budget,
        *,
        initial: float = 1.0,
        begin: int | float = 0.0,
        end: int | float = 0.5,
        until: int | float = 1.0,
        every: int = 100,
        exchange: float = 0.5,
        last: float = 0.005,
        growth: Literal["gradient", "random"] = "gradient",
        seed: int = 0,
        parity: Literal["paper", "official"] = "paper",
    ) -> None:
        """Check the settings.

        Args:
            budget: share of the weights that stays in the end.
            initial: share that the training starts with; below 1.0 at random, with ERK densities.
            begin: of pruning: a share of the training, or a number of steps.
            end: of pruning.
            until: of exchanging.
            every: steps between two events.
            exchange: share of the alive weights of each matrix that is exchanged at first; 0.0 = never.
            last: the same at the end of the training; half a cosine between.
            growth: which weights come: those of largest gradient, or any.
            seed: of the masks at the start.
            parity: official is the released cut.
        """
        self.budget, self.final = share_of(budget, "granet")
        if every < 1 or not 0 < self.final <= initial <= 1 or not (0 <= exchange <= 1 and 0 <= last <= 1):
            raise BadInput(
                f"every must be 1 or more, initial between the budget and 1, exchange and last in 0..1, not {every}, "
                f"{initial}, {exchange}, {last}"
            )
        if growth not in ("gradient", "random"):
            raise BadInput(f"growth is gradient or random, not {growth!r}")
        self.initial, self.begin, self.end, self.until, self.every = initial, begin, end, until, every
        self.exchange, self.last, self.seed, self.parity = exchange, last, seed, parity
        self.growth: Literal["gradient", "random"] = growth

    def at(self, step: int, total: int) -> Event | None:
        """Sparse masks at the start where `initial` is below 1; then an event every `every` steps."""
        begin, end = span(self.begin, self.end, total)
        until = step_of(self.until, total, "until")
        if step == 0:
            return Event("prune", at_share(self.budget, self.initial)) if self.initial < 1 else None
        first, final = begin // self.every, end // self.every
        if step % self.every or step < begin:
            return None
        pruning = first <= step // self.every <= (final if self.parity == "paper" else final - 1)
        pruning = pruning and (self.initial > self.final or self.parity == "official")
        budget = at_share(self.budget, self.share(step, total)) if pruning else None
        rate = self.rate(step, total) if step <= until and (step < total or self.parity == "official") else 0.0
        if rate == 0:
            return Event("prune", budget) if budget is not None else None
        needs = ("grad",) if self.growth == "gradient" else ()
        return Event("regrow", budget, needs, exchange=rate, growth=self.growth)

    def share(self, step: int, total: int) -> float:
        """Share of the weights that stays after the event at a step."""
        begin, end = span(self.begin, self.end, total)
        first, final = begin // self.every, end // self.every
        progress = min(max((step // self.every - first) / max(final - first, 1), 0.0), 1.0)
        return self.initial - (self.initial - self.final) * (1 - (1 - progress) ** 3)

    def rate(self, step: int, total: int) -> float:
        """Share of the alive weights that is exchanged at a step."""
        if self.exchange == 0:
            return 0.0
        return self.last + (self.exchange - self.last) * (1 + math.cos(math.pi * step / max(total, 1))) / 2

    def choose(self, event: Event, layers: Mapping[str, Any]) -> dict[str, Tensor] | None:
        """Random ERK masks at the start (where everything is alive), the released cut under parity="official"."""
        if event.budget is None:
            return None
        if event.kind == "prune" and self.initial < 1 and all(bool(one.alive.all()) for one in layers.values()):
            return erk_masks(layers, event.budget.term.amount, self.seed)
        return released_cut(layers, event.budget.term.amount) if self.parity == "official" else None


def erk_masks(layers: Mapping[str, Any], density: float, seed: int) -> dict[str, Tensor]:
    """Random masks of round(density_l n_l) weights in each matrix, at least one, with ERK densities."""
    import torch

    found = densities([layer.shape for layer in layers.values()], density)
    masks: dict[str, Tensor] = {}
    for (name, layer), share in zip(layers.items(), found.tolist()):
        size = layer.score.numel()
        flat = np.zeros(size, dtype=bool)
        flat[Rng(seed, f"granet/{name}").sample(np.arange(size), max(round(share * size), 1))] = True
        masks[name] = torch.from_numpy(flat).reshape(layer.score.shape).to(layer.score.device)
    return masks


def released_cut(layers: Mapping[str, Any], density: float) -> dict[str, Tensor]:
    """What is strictly above the int(N density)-th largest score of all matrices."""
    import torch

    every = torch.cat([layer.score.flatten() for layer in layers.values()])
    count = int(every.numel() * density)
    limit = every.topk(count).values[-1] if count else every.max()
    return {name: layer.score > limit for name, layer in layers.items()}
