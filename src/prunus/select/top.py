"""Top: keep the units that rank first (for rows Paul et al. 2021; for weights Han et al. 2015).

Removes: whatever the score is over.
Needs: a score; labels for `within="class"`.
Cost: O(n log n), memory 2 n.
Departures: ties are broken by id where the released code leaves them to an unstable sort. The released window "skip
  the `offset` easiest, keep the next m" is `keep="easiest", offset=...`; "leave out the hardest as suspected noise"
  is `keep="hardest", offset=...`. Below 30 % kept, the hardest rows lose to random rows on every public benchmark: a
  warning says so.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.select.by_label import by_label, check_count, part

if TYPE_CHECKING:
    from prunus.core.rng import Rng
    from prunus.select.by_label import Positions

TOO_FEW = 0.3


@selector(card="data-diet", within="all")
def top(
    score: GroupScore,
    count: int,
    *,
    keep: Literal["hardest", "easiest"] = "hardest",
    offset: int = 0,
    within: Literal["all", "class"] = "all",
    rng: Rng | None = None,
) -> Positions:
    """Positions of the units that rank first.

    Args:
        score: a keep score ranks large values first; a hard or easy score ranks by `keep`.
        count: units kept.
        keep: which end of a hard or easy score stays; a keep score takes no choice.
        offset: units passed over at the start of the ranking, in each label when within is class.
        within: all = one ranking; class = the same share of every label, ranked inside it (rows).
        rng: not used.

    Returns:
        int64 `[count]` positions in ranking order. Without offset, a smaller count keeps a subset of a larger one
        (within all).

    Raises:
        BudgetUnreachable: offset + count exceeds the units.
        NonFinite: a value is NaN or infinite.
    """
    check_count(score, count)
    if score.sense == "keep" and keep != "hardest":
        raise BadInput(
            f"keep={keep!r} needs a hard or easy score; the score of {score.name or 'this group'} says what to keep"
        )
    _warn_if_few(score, count, keep, offset)
    if within == "class":
        return by_label(score, count, lambda positions, few: _rank(part(score, positions), few, keep, offset))
    return _rank(score, count, keep, offset)


def _rank(score: GroupScore, count: int, keep: Literal["hardest", "easiest"], offset: int) -> Positions:
    n = score.values.shape[0]
    if offset < 0 or offset + count > n:
        raise BudgetUnreachable(
            f"offset {offset} leaves {n - offset} of {n} units, not {count}", nearest=f"{max(n - offset, 0)} units"
        )
    return score.keep_order("hard" if keep == "hardest" else "easy")[offset : offset + count]


def _warn_if_few(score: GroupScore, count: int, keep: str, offset: int) -> None:
    few = count < TOO_FEW * score.values.shape[0]
    if score.sense != "keep" and keep == "hardest" and offset == 0 and few and count > 0:
        message = "below about 30 % kept, the hardest rows alone are worse than random ones: see select='ccs'"
        warnings.warn(message, UserWarning, stacklevel=3)
