"""One shot: everything at once, at one moment of the training (before it, by default).

Removes: what the budget says, by any criterion.
Needs: nothing itself; the criterion's own.
Cost: one plan.
Departures: none; the rule of every method that prunes before training or after it.
"""

from __future__ import annotations

from prunus.core.budget import Budget
from prunus.core.registry import schedule
from prunus.schedule.event import Event, over_weights, step_of


@schedule()
class OneShot:
    """One pruning event."""

    def __init__(self, budget: str | Budget, *, when: int | float = 0.0) -> None:
        """Keep the settings.

        Args:
            budget: what stays, any budget over weights: `10% weights`, `5000 weights`, `2:4`.
            when: a share of the training (0.5), or a number of steps (500).
        """
        self.budget, self.when = over_weights(budget), when

    def at(self, step: int, total: int) -> Event | None:
        """The event, at its step only."""
        return Event("prune", self.budget) if step == step_of(self.when, total, "when") else None
