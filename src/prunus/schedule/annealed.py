"""Annealed: what stays falls along a straight line, half a cosine, or by the same factor at every event.

Removes: weights, a few at a time.
Needs: nothing itself; the criterion's own.
Cost: one plan every `every` steps.
Departures: own arrangement of three known curves: the straight line of gradual pruning before `cubic`, the cosine of
  dynamic sparse training, and the exponential of SynFlow and of iterative pruning, d^(k / n) after k of n events.
"""

from __future__ import annotations

import math
from typing import Literal

from prunus.core.budget import Budget
from prunus.core.errors import BadInput
from prunus.core.registry import schedule
from prunus.schedule.event import Event, at_share, share_of, span


@schedule()
class Annealed:
    """A falling share of the weights, at regular steps from `begin` to `end`, and at `end` itself."""

    def __init__(
        self,
        budget: str | Budget,
        *,
        shape: Literal["exponential", "linear", "cosine"] = "exponential",
        begin: int | float = 0.0,
        end: int | float = 0.7,
        every: int = 100,
        initial: float = 1.0,
    ) -> None:
        """Check the settings.

        Args:
            budget: share of the weights that stays in the end.
            shape: exponential = equal factors, linear = equal amounts, cosine = slow at both ends.
            begin: first event: a share of the training, or a number of steps.
            end: last event.
            every: steps between two events.
            initial: share that stays at the first event; 1.0 = nothing goes yet.
        """
        self.budget, self.final = share_of(budget, "annealed")
        if shape not in ("exponential", "linear", "cosine"):
            raise BadInput(f"shape is exponential, linear or cosine, not {shape!r}")
        if every < 1 or not 0 < self.final <= initial <= 1:
            raise BadInput(f"every must be 1 or more and initial between the budget and 1, not {every} and {initial}")
        self.shape, self.begin, self.end, self.every, self.initial = shape, begin, end, every, initial

    def at(self, step: int, total: int) -> Event | None:
        """An event every `every` steps from `begin` on, and one at `end`."""
        begin, end = span(self.begin, self.end, total)
        if not begin <= step <= end or ((step - begin) % self.every and step != end):
            return None
        return Event("prune", at_share(self.budget, self.share(step, total)))

    def share(self, step: int, total: int) -> float:
        """Share of the weights that stays at a step."""
        begin, end = span(self.begin, self.end, total)
        progress = min(max((step - begin) / max(end - begin, 1), 0.0), 1.0)
        if self.shape == "exponential":
            return self.initial * (self.final / self.initial) ** progress
        left = 1 - progress if self.shape == "linear" else (1 + math.cos(math.pi * progress)) / 2
        return self.final + (self.initial - self.final) * left
