"""AP: in every round some of what goes are negative weights that hardly moved, so that more neurons fire (Liu et al. 2023).

Removes: weights, in rounds with rewinding like `iterative`: of the share `fraction` of the remaining ones, `activation` are negative
  weights that training moved least; the rest go by the criterion (global magnitude in the paper). Removing a negative incoming
  weight raises what a neuron gets, and fewer of its outputs are zero: see `px.measure`'s dead_neurons.
Needs: the criterion's own; the weights that a round began with, which the rewind keeps anyway.
Cost: that of `iterative`; one more ranking a round.
Departures: counts are exact, and where there are too few negative weights the criterion takes the rest. `parity="official"` is the
  released rule for one round: below np.percentile of the remaining weights by magnitude, then activation's share and one more.
  Only weight matrices are pruned (released: every tensor called weight, norms too; and tensors before a bias are pooled twice).
  AP-Lite has a fixed share; for AP-Pro, whose rule is not verified, `activation` may be a function of the round, counted from 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from prunus.core.budget import Budget
from prunus.core.errors import BadInput
from prunus.core.registry import schedule
from prunus.schedule.event import Event, at_share, share_of
from prunus.schedule.iterative import check_rounds, round_event, whole

if TYPE_CHECKING:
    from torch import Tensor


@schedule(card="ap", within="all", name="ap")
class Ap:
    """Rounds of training with activation. `whole(length)` is `total` for rounds of `length` steps."""

    def __init__(
        self,
        budget: str | Budget,
        *,
        fraction: float = 0.2,
        activation: float | Callable[[int], float] = 0.02,
        rounds: int | None = None,
        to: int | float = 0,
        parity: Literal["paper", "official"] = "paper",
    ) -> None:
        """Check the settings.

        Args:
            budget: share of the weights that stays in the last round.
            fraction: share of the remaining weights that goes in a round: sets the number of rounds.
            activation: the part of it that are negative weights, as a share of the remaining ones; far below `fraction`.
            rounds: number of times that something is pruned; by default as many as `fraction` needs.
            to: step of the training that each round goes back to: a number of steps, or a share of a training.
            parity: official is the released rule for what goes.
        """
        self.budget, self.final = share_of(budget, "ap")
        if not 0 < fraction < 1 or not 0 < self.final <= 1:
            raise BadInput(f"fraction and budget must lie between 0 and 1, not {fraction} and {self.final}")
        if not callable(activation) and not 0 <= activation <= fraction:
            raise BadInput(f"activation is a part of fraction={fraction}, not {activation}")
        needed = math.ceil(math.log(self.final) / math.log(1 - fraction) - 1e-9)
        self.rounds = check_rounds(max(needed, 1) if rounds is None else rounds, "rewind")
        self.fraction, self.activation, self.to, self.parity = fraction, activation, to, parity
        self.after = "rewind"

    def at(self, step: int, total: int) -> Event | None:
        """What to remember at step `to`, and a cut at the end of every round but the last."""
        return round_event(self, step, total, lambda done: at_share(self.budget, self.final ** (done / self.rounds)))

    def whole(self, length: int) -> int:
        """Steps of all rounds, the first of which has `length`."""
        return whole(length, self.rounds, self.to)

    def choose(self, event: Event, layers: Mapping[str, Any]) -> dict[str, Tensor]:
        """Masks after the cut by score and the cut of negative weights.

        Raises:
            BadInput: nothing was remembered to measure movement from.
        """
        import torch

        if any(layer.start is None for layer in layers.values()):
            raise BadInput(
                "ap measures how far weights moved since the step it rewinds to, and nothing is remembered yet"
            )
        score, weight, start, alive = (
            torch.cat([getattr(layer, field).flatten() for layer in layers.values()])
            for field in ("score", "weight", "start", "alive")
        )
        assert event.budget is not None
        share = self._share(event.budget.term.amount)
        size, before = alive.numel(), int(alive.sum())
        moved = (weight - start).abs()
        if self.parity == "official":
            kept = alive & ~_below_percentile(score, alive, self.fraction - share)
            kept = kept & ~_least_moved(moved, kept & (weight < 0), int(before * share + 1e-9) + 1 if share else 0)
        else:
            gone = before - max(size - event.budget.drop_count(size), 1)
            few = min(int(before * share + 1e-9), gone)
            kept = _without_lowest(score, alive, gone - few)
            least = _least_moved(moved, kept & (weight < 0), few)
            kept = _without_lowest(score, kept & ~least, few - int(least.sum()))
        parts = kept.split([layer.weight.numel() for layer in layers.values()])
        return {name: part.reshape(layers[name].weight.shape) for name, part in zip(layers, parts)}

    def _share(self, stays: float) -> float:
        """Activation's share in the round after which so much stays."""
        if not callable(self.activation):
            return self.activation
        return self.activation(round(self.rounds * math.log(stays) / math.log(self.final)) if self.final < 1 else 1)


def _without_lowest(score: Tensor, alive: Tensor, count: int) -> Tensor:
    places = alive.nonzero().flatten()
    kept = alive.clone()
    kept[places[score[places].sort(stable=True).indices[: max(count, 0)]]] = False
    return kept


def _least_moved(moved: Tensor, among: Tensor, count: int) -> Tensor:
    """True at the `count` weights among these that moved least; at all of them where there are fewer."""
    return among & ~_without_lowest(moved, among, count)


def _below_percentile(score: Tensor, alive: Tensor, share: float) -> Tensor:
    """Strictly below numpy's linear percentile of the remaining scores."""
    import numpy as np
    import torch

    limit = np.percentile(score[alive].numpy(force=True), 100 * share)
    return torch.from_numpy(score.numpy(force=True) < limit).to(score.device)
