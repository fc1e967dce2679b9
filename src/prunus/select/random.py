"""Random: keep units drawn at random, whatever their scores: the control of every result.

Removes: whatever the score is over.
Needs: nothing but ids; labels for `within="class"`.
Cost: O(n log n), memory about 3 n numbers.
Departures: own. The draw is a keyed hash of (seed, id), so it does not depend on the order of the units, and a
  smaller count keeps a subset of a larger one (within all).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.select.by_label import by_label, check_count

if TYPE_CHECKING:
    from prunus.core.rng import Rng
    from prunus.select.by_label import Positions


@selector(within="all")
def random(score: GroupScore, count: int, *, within: Literal["all", "class"] = "all", rng: Rng) -> Positions:
    """Positions of units drawn without replacement.

    Args:
        score: only its ids (and labels) are read.
        count: units kept.
        within: all = one draw; class = the same share of every label (random-balanced, rows).
        rng: seed and purpose.

    Returns:
        int64 `[count]` positions.
    """
    check_count(score, count)
    if within == "class":
        return by_label(score, count, lambda positions, few: rng.sample(score.ids[positions], few))
    return rng.sample(score.ids, count)
