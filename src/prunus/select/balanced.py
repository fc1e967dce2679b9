"""Balanced: one ranking of all rows, with a floor under every class (Sorscher et al. 2022).

Removes: rows: those that rank last, but for the first of every class.
Needs: a score; labels unless balance is 0.
Cost: O(n log n), memory about 4 n numbers.
Departures: how the authors balance at "50 %" was not released. Here every class first keeps its floor(balance * m / C)
  first rows, or all where it has fewer, and the rest of the m goes by the ranking of all rows. The paper
  finds that hard rows should stay while data abound and easy ones when they are scarce: `keep="auto"` keeps the hardest from
  30 % kept upwards, the easiest below, and warns when it turns round.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np

from prunus.core.errors import BadInput
from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.select.by_label import check_count, labels_of
from prunus.select.top import TOO_FEW

if TYPE_CHECKING:
    from prunus.core.rng import Rng
    from prunus.select.by_label import Positions


@selector(card="ssp")
def balanced(
    score: GroupScore,
    count: int,
    *,
    balance: float = 0.5,
    keep: Literal["auto", "hardest", "easiest"] = "auto",
    rng: Rng | None = None,
) -> Positions:
    """Positions of the rows that rank first, every class keeping a part of its equal share.

    Args:
        score: a keep score ranks large values first; a hard or easy score ranks by `keep`.
        count: rows kept.
        balance: part of the equal share count / C that every class keeps: 0 = one ranking, 1 = nearly equal classes.
        keep: which end of a hard or easy score stays; auto goes by the share that stays.
        rng: not used.

    Returns:
        int64 `[count]` positions.
    """
    check_count(score, count)
    if not 0 <= balance <= 1:
        raise BadInput(f"balance is a share of the equal class size, in [0, 1], not {balance}")
    if keep not in ("auto", "hardest", "easiest"):
        raise BadInput(f"keep is auto, hardest or easiest, not {keep!r}")
    if score.sense == "keep" and keep == "easiest":
        raise BadInput(
            f"keep={keep!r} needs a hard or easy score; the score of {score.name or 'this group'} says what to keep"
        )
    order = score.keep_order("easy" if _easiest(score, count, keep) else "hard")
    if balance == 0 or not count:
        return order[:count]
    names, members = np.unique(labels_of(score)[order], return_inverse=True)
    floor = math.floor(balance * count / names.size)
    first = _place(members) < floor
    return np.concatenate([order[first], order[~first]])[:count]


def _place(members: Positions) -> Positions:
    """How many of the same class come before each row of a ranking, int64 `[n]`."""
    grouped = np.argsort(members, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(members))])
    place = np.empty(members.size, dtype=np.int64)
    place[grouped] = np.arange(members.size) - starts[members[grouped]]
    return place


def _easiest(score: GroupScore, count: int, keep: str) -> bool:
    if score.sense == "keep" or keep != "auto" or count >= TOO_FEW * score.values.shape[0]:
        return keep == "easiest"
    if count > 0:
        message = "below about 30 % kept, hard rows are worse than random ones: the easiest stay; see keep"
        warnings.warn(message, UserWarning, stacklevel=3)
    return True
