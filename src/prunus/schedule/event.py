"""What a schedule answers. `at(step, total)` is asked before training (step 0) and after every optimizer step.

`step` counts optimizer steps that are done, so the gradients of the last batch are still there when it is asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol

from prunus.core.budget import Budget, Term
from prunus.core.errors import BadInput

Kind = Literal["prune", "regrow", "rewind", "reset", "replan", "remember"]
Growth = Literal["gradient", "random"]


@dataclass(frozen=True)
class Event:
    """One thing that happens between two steps. A budget is met first, whatever the kind; then comes the kind's own part.

    Attributes:
        kind: prune (nothing more), regrow (a share of every matrix's weights is exchanged), rewind (the weights of an
            earlier step come back), reset (new weights are drawn), replan (rows: a new plan), remember (the weights of
            this step will be wanted again).
        budget: what stays of all weights that take part, those that went before included. None: nothing is pruned, or
            the schedule chooses itself (`choose`).
        needs: "grad" where the gradients of the last batch decide.
        to: the step of its training that the loop goes back to (learning rate, order of rows); None: it goes on.
        exchange: regrow only: share of the weights alive in every matrix that others take the place of.
        growth: regrow only: which come: those of largest gradient, or any.
    """

    kind: Kind
    budget: Budget | None = None
    needs: tuple[str, ...] = ()
    to: int | None = None
    exchange: float = 0.0
    growth: Growth = "gradient"


class Schedule(Protocol):
    """What plans and loops ask. Answers depend on the arguments only: nothing is to be stored or resumed.

    A schedule that also decides which weights stay (amounts that follow from the weights, a released rule) has
    `choose(event, layers) -> {matrix: mask} | None`; see `flow.while_training`.
    """

    def at(self, step: int, total: int) -> Event | None:
        """What happens once `step` of `total` optimizer steps are done, 0 <= step <= total."""
        ...


def events_of(schedule: Schedule, total: int) -> dict[int, Event]:
    """Step -> event of a whole training.

    Raises:
        BadInput: `total` is negative, or the schedule has an event after it.
    """
    if total < 0:
        raise BadInput(f"a training of {total} steps is not possible")
    asked = ((step, schedule.at(step, total)) for step in range(total + 1))
    return {step: event for step, event in asked if event is not None}


def step_of(when: float, total: int, what: str) -> int:
    """A moment as a step: a float is a share of the training, an integer a number of steps.

    Raises:
        BadInput: it lies outside of the training.
    """
    if isinstance(when, int):
        if not 0 <= when <= total:
            last = f"the training ends after {total} steps: train longer, or give {what} as a share such as 0.5"
            raise BadInput(f"{what} is step {when}, and {last}")
        return when
    if not 0 <= when <= 1:
        raise BadInput(f"{what} is a share of the training in 0..1, or a whole number of steps, not {when}")
    return round(when * total)


def span(begin: float, end: float, total: int) -> tuple[int, int]:
    """First and last step of a stretch of the training.

    Raises:
        BadInput: it lies outside of the training, or ends before it begins.
    """
    first, last = step_of(begin, total, "begin"), step_of(end, total, "end")
    if last < first:
        raise BadInput(f"end (step {last}) comes before begin (step {first}) in a training of {total} steps")
    return first, last


def over_weights(budget: str | Budget) -> Budget:
    """A budget read, and refused where it is about anything else than weights."""
    parsed = Budget.parse(budget)
    if parsed.unit != "weights":
        raise BadInput(f"weights go one by one here: give a budget as '10% weights', not {parsed.short()!r}")
    return parsed


def share_of(budget: str | Budget, what: str) -> tuple[Budget, float]:
    """A budget that says which share of the weights stays, and that share.

    Raises:
        BadInput: it is N:M, an absolute number, or about something else.
    """
    parsed = over_weights(budget)
    if parsed.nm or not parsed.term.relative:
        raise BadInput(f"{what} goes through shares: give one, as '10% weights', not {parsed.short()!r}")
    return parsed, parsed.term.amount


def at_share(budget: Budget, share: float) -> Budget:
    """The same budget (floor and all) with another share of the weights."""
    return replace(budget, terms=(Term(share, True, "weights"),))
