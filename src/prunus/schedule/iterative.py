"""Iterative: train, prune, go back, again (lottery tickets, Frankle and Carbin 2019; late rewinding, Frankle et al. 2019).

Removes: weights, the same share of the remaining ones in every round, by one cut over all matrices (magnitude in the
  papers): what stays after round i of n is budget^(i / n).
Needs: nothing itself; the criterion's own.
Cost: a training of T steps and then `rounds` of T - k, with k the step that is gone back to; memory one copy of the
  state for a rewind.
Departures: counts are exact. `parity="official"` is the released rule: of the a remaining weights ceil(fraction a) + 1 go,
  and all that tie with the last one. Moments start empty in every round, as released; the first round goes on from
  step k with the moments it has (released: it starts again from step k without them).

`after="rewind"` with `to=0` is the lottery ticket; with a `to` above 0 late rewinding; `fresh` draws new weights, the
control that the claim rests on; `learning_rate` keeps the weights and rewinds the learning rate only (Renda et al.
2020); `nothing` prunes and trains on. A rewind helps only where training is stable: with momentum and a learning rate
of 0.05 or more and no warm-up, weights of step 0 are no better than fresh ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from prunus.core.budget import Budget
from prunus.core.errors import BadInput
from prunus.core.registry import schedule
from prunus.schedule.event import Event, at_share, share_of, step_of

if TYPE_CHECKING:
    from torch import Tensor

After = Literal["rewind", "fresh", "learning_rate", "nothing"]


@schedule(card="lth", within="all")
class Iterative:
    """Rounds of training, each with fewer weights. `whole(length)` is `total` for rounds of `length` steps."""

    def __init__(
        self,
        budget: str | Budget,
        *,
        fraction: float = 0.2,
        rounds: int | None = None,
        to: int | float = 0,
        after: After = "rewind",
        parity: Literal["paper", "official"] = "paper",
    ) -> None:
        """Check the settings.

        Args:
            budget: share of the weights that stays in the last round.
            fraction: share of the remaining weights that goes in a round: sets the number of rounds, and what goes under
                parity="official".
            rounds: number of times that something is pruned; by default as many as `fraction` needs.
            to: step of the training that each round goes back to: a number of steps, or a share of a training.
            after: what follows a cut: rewind (weights of step `to`), fresh (new weights), learning_rate (weights stay), or
                nothing.
            parity: official is the released rule for what goes.
        """
        self.budget, self.final = share_of(budget, "iterative")
        if not 0 < fraction < 1 or not 0 < self.final <= 1:
            raise BadInput(f"fraction and budget must lie between 0 and 1, not {fraction} and {self.final}")
        needed = math.ceil(math.log(self.final) / math.log(1 - fraction) - 1e-9)
        self.rounds = check_rounds(max(needed, 1) if rounds is None else rounds, after)
        if after == "fresh" and to:
            raise BadInput(f"fresh weights begin at step 0: leave to={to} out")
        self.fraction, self.to, self.after, self.parity = fraction, to, after, parity

    def at(self, step: int, total: int) -> Event | None:
        """What to remember at step `to`, and a cut at the end of every round but the last."""
        return round_event(self, step, total, lambda done: at_share(self.budget, self.final ** (done / self.rounds)))

    def whole(self, length: int) -> int:
        """Steps of all rounds, the first of which has `length`."""
        return whole(length, self.rounds, self.to)

    def choose(self, event: Event, layers: Mapping[str, Any]) -> dict[str, Tensor] | None:
        """The released masks under parity="official"; otherwise the choice is the criterion's."""
        return released_masks(layers, self.fraction) if self.parity == "official" else None


def check_rounds(rounds: int, after: str) -> int:
    """The number of rounds, refused below 1 or with an unknown ending."""
    if rounds < 1:
        raise BadInput(f"rounds must be 1 or more, not {rounds}")
    if after not in ("rewind", "fresh", "learning_rate", "nothing"):
        raise BadInput(f"after is rewind, fresh, learning_rate or nothing, not {after!r}")
    return rounds


def whole(length: int, rounds: int, to: int | float) -> int:
    """Steps of a training of `length` and of `rounds` that begin again at `to`."""
    return length + rounds * (length - step_of(to, length, "to"))


def round_length(total: int, rounds: int, to: int | float) -> int:
    """Turns `whole` back: the longest first round of a training of `total` steps; steps left over go to the last."""
    if isinstance(to, int):
        return (total + rounds * to) // (rounds + 1)
    if not 0 <= to < 1:
        raise BadInput(f"to is a share of a training in [0, 1), or a whole number of steps, not {to}")
    length = int(total / (1 + rounds * (1 - to)) + 1 / (1 - to))
    while length > 0 and whole(length, rounds, to) > total:
        length -= 1
    return length


def round_event(one: Any, step: int, total: int, budget: Any) -> Event | None:
    """The event of a schedule with `rounds`, `to` and `after`; `budget(i)` is that of its i-th cut.

    Raises:
        BadInput: the training is too short for the rounds.
    """
    rounds = int(one.rounds)
    length = round_length(total, rounds, one.to)
    start = one.to if isinstance(one.to, int) else step_of(one.to, length, "to")
    if length <= start:
        raise BadInput(f"a training of {total} steps is too short for {rounds} rounds that begin again at {one.to}")
    if step == start and one.after == "rewind":
        return Event("remember")
    done, rest = divmod(step - length, length - start)
    if step < length or rest or done >= rounds:
        return None
    kinds: dict[str, Any] = {"rewind": "rewind", "fresh": "reset", "learning_rate": "prune", "nothing": "prune"}
    return Event(kinds[one.after], budget(done + 1), to=None if one.after == "nothing" else start)


def released_masks(layers: Mapping[str, Any], fraction: float) -> dict[str, Tensor]:
    """Strictly above the (ceil(fraction a) + 1)-th smallest of the a remaining scores of all matrices."""
    import torch

    remaining = torch.cat([layer.score[layer.alive] for layer in layers.values()])
    count = math.ceil(fraction * remaining.numel())
    limit = remaining.sort().values[min(count, remaining.numel() - 1)]
    return {name: layer.alive & (layer.score > limit) for name, layer in layers.items()}
