"""PQI-SAP: rounds of training in which the weights themselves say how many of them go (Diao et al. 2023).

Removes: weights: of the d alive ones of a neuron, a matrix or the model, floor(d min(gamma (1 - m / d), beta)), where m is
  the bound of the PQ index on how many must stay: much of heavy-tailed weights, little of even ones.
Needs: trained weights; the index reads weights, any criterion says which of them go (magnitude in the paper).
Cost: a training a round; two norms of each matrix.
Departures: `budget` is the least that stays, in each neuron, matrix or model that the index is taken of: the paper prunes
  for a fixed number of rounds only. Norms are summed in float64 over alive weights, so an empty neuron has index 0. Counts
  are exact and ties broken by position; the released float32 loses one weight in every few cuts (floor(30 (1 - 28 / 30))
  is 1 there), which `parity="official"` reproduces. The last state of a round is cut, not the one that was best on test rows. The
  optimizer starts empty and never moves masked weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from prunus.core.budget import Budget
from prunus.core.errors import BadInput
from prunus.core.registry import schedule
from prunus.maths.sparsity_index import pq_index, to_retain
from prunus.schedule.event import Event, share_of
from prunus.schedule.iterative import After, check_rounds, round_event, whole

if TYPE_CHECKING:
    from torch import Tensor


@schedule(card="pqi-sap", name="pqi_sap")
class PqiSap:
    """Rounds of training with adaptive cuts. `whole(length)` is `total` for rounds of `length` steps."""

    def __init__(
        self,
        budget: str | Budget,
        *,
        rounds: int = 30,
        scope: Literal["output", "group", "all"] = "all",
        p: float = 0.5,
        q: float = 1.0,
        error: float = 0.0,
        gamma: float = 1.0,
        beta: float = 0.9,
        to: int | float = 0,
        after: After = "rewind",
        parity: Literal["paper", "official"] = "paper",
    ) -> None:
        """Check the settings.

        Args:
            budget: least share of the weights that stays.
            rounds: number of times that something is pruned.
            scope: what one index is taken of, and within which weights compete: each output, each group (matrix), or all.
            p: of the index; below q.
            q: of the index.
            error: tolerated share of the q-norm that goes.
            gamma: factor on the share that the bound lets go.
            beta: largest share that goes at once.
            to: step of the training that each round goes back to, or a share of it.
            after: what follows a cut: rewind, fresh, learning_rate or nothing, as for iterative.
            parity: official rounds the share that goes to float32 first.
        """
        self.budget, self.least = share_of(budget, "pqi_sap")
        if not 0 < p < q or error < 0 or gamma <= 0 or not 0 < beta < 1:
            raise BadInput(f"0 < p < q, error >= 0, gamma > 0 and 0 < beta < 1, not {p}, {q}, {error}, {gamma}, {beta}")
        if scope not in ("output", "group", "all"):
            raise BadInput(f"scope is output, group or all, not {scope!r}")
        self.rounds, self.scope, self.to, self.after = check_rounds(rounds, after), scope, to, after
        self.p, self.q, self.error, self.gamma, self.beta, self.parity = p, q, error, gamma, beta, parity

    def at(self, step: int, total: int) -> Event | None:
        """What to remember at step `to`, and a cut at the end of every round but the last."""
        return round_event(self, step, total, lambda done: None)

    def whole(self, length: int) -> int:
        """Steps of all rounds, the first of which has `length`."""
        return whole(length, self.rounds, self.to)

    def count(self, weights: Tensor, size: int) -> int:
        """How many alive weights go.

        Args:
            weights: the alive ones.
            size: of the neuron, matrix or model, those that went before included.
        """
        alive = weights.numel()
        if alive == 0:
            return 0
        stay = to_retain(alive, self.index(weights), p=self.p, q=self.q, error=self.error)
        count = math.floor(alive * min(self.gamma * (1 - stay / alive), self.beta) + 1e-9)
        if self.parity == "official":
            one = np.float32
            count = math.floor(one(alive) * min(one(self.gamma) * (1 - one(stay) / one(alive)), one(self.beta)))
        return max(min(count, alive - math.ceil(self.least * size - 1e-9)), 0)

    def index(self, weights: Tensor) -> float:
        """The PQ index of alive weights."""
        return pq_index(weights.detach().numpy(force=True), self.p, self.q)

    def choose(self, event: Event, layers: Mapping[str, Any]) -> dict[str, Tensor]:
        """The masks without the smallest scores of every neuron, matrix or model."""
        import torch

        if self.scope == "all":
            weight, score, alive = (
                torch.cat([getattr(layer, field).flatten() for layer in layers.values()])
                for field in ("weight", "score", "alive")
            )
            parts = self._kept(weight, score, alive).split([layer.weight.numel() for layer in layers.values()])
            return {name: part.reshape(layers[name].weight.shape) for name, part in zip(layers, parts)}
        if self.scope == "group":
            return {name: self._kept(one.weight, one.score, one.alive) for name, one in layers.items()}
        return {
            name: torch.stack([self._kept(*line) for line in zip(one.weight, one.score, one.alive)])
            for name, one in layers.items()
        }

    def _kept(self, weight: Tensor, score: Tensor, alive: Tensor) -> Tensor:
        """Alive weights without the `count` of lowest score."""
        kept = alive.flatten().clone()
        places = kept.nonzero().flatten()
        count = self.count(weight.flatten()[places], alive.numel())
        kept[places[score.flatten()[places].sort(stable=True).indices[:count]]] = False
        return kept.reshape(alive.shape)
