"""Cubic: gradual pruning, fast at first and slow at the end (AGP, Zhu and Gupta 2017).

Removes: weights, a few at a time: what stays falls as d_f + (d_i - d_f) (1 - progress)^3.
Needs: nothing itself; the criterion's own (magnitude within each matrix in the paper).
Cost: one plan every `every` steps.
Departures: one event is forced at `end`, so the budget is met where `end - begin` is no multiple of `every`; the released
  schedule then stops short of it. What goes is rounded down in each matrix and ties are broken by position, so counts
  are exact. `parity="official"` is the released code: no forced event, sparsity in float32, what stays rounded half to
  even and at least 1, every weight that ties with the last one kept as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from prunus.core.budget import Budget
from prunus.core.errors import BadInput
from prunus.core.registry import schedule
from prunus.schedule.event import Event, at_share, share_of, span

if TYPE_CHECKING:
    from torch import Tensor


@schedule(card="agp")
class Cubic:
    """A falling share of the weights, at regular steps from `begin` to `end`."""

    def __init__(
        self,
        budget: str | Budget,
        *,
        begin: int | float = 0.0,
        end: int | float = 0.7,
        every: int = 100,
        initial: float = 1.0,
        power: float = 3.0,
        parity: Literal["paper", "official"] = "paper",
    ) -> None:
        """Check the settings.

        Args:
            budget: share of the weights that stays in the end.
            begin: first event: a share of the training, or a number of steps.
            end: last event; leave time to recover at a learning rate that still can.
            every: steps between two events.
            initial: share that stays at the first event; 1.0 = nothing goes yet.
            power: 3 is cubic, 1 a straight line.
            parity: official is the released code with its rounding.
        """
        self.budget, self.final = share_of(budget, "cubic")
        if every < 1 or power <= 0 or not self.final <= initial <= 1:
            raise BadInput(
                f"every must be 1 or more, power positive and initial between the budget and 1, not {every}, {power}, {initial}"
            )
        self.begin, self.end, self.every, self.initial, self.power = begin, end, every, initial, power
        self.parity = parity

    def at(self, step: int, total: int) -> Event | None:
        """An event every `every` steps from `begin` on, and one at `end`."""
        begin, end = span(self.begin, self.end, total)
        due = begin <= step <= end and (step - begin) % self.every == 0
        forced = step == end and self.parity == "paper"
        return Event("prune", at_share(self.budget, self.share(step, total))) if due or forced else None

    def share(self, step: int, total: int) -> float:
        """Share of the weights that stays at a step, whether or not something happens there."""
        begin, end = span(self.begin, self.end, total)
        progress = min(max((step - begin) / max(end - begin, 1), 0.0), 1.0)
        if self.parity == "official":
            return 1 - _single_precision(1 - self.initial, 1 - self.final, progress, self.power)
        return self.final + (self.initial - self.final) * (1 - progress) ** self.power

    def choose(self, event: Event, layers: Mapping[str, Any]) -> dict[str, Tensor] | None:
        """The released masks under parity="official"; otherwise the choice is the criterion's."""
        if self.parity == "paper" or event.budget is None:
            return None
        return {name: released_mask(layer.score, 1 - event.budget.term.amount) for name, layer in layers.items()}


def _single_precision(first: float, last: float, progress: float, power: float) -> float:
    """The released formula over sparsities, in its float32."""
    import numpy as np

    one = np.float32
    return float(one(last) + (one(first) - one(last)) * one(1 - one(progress)) ** one(power))


def released_mask(score: Tensor, sparsity: float) -> Tensor:
    """bool of the score's shape: all that are at least the k-th largest, k = max(1, round half even (n (1 - sparsity)))."""
    import numpy as np

    kept = max(int(np.round(np.float32(score.numel()) * (np.float32(1) - np.float32(sparsity)))), 1)
    return score >= score.flatten().topk(kept).values[-1]
