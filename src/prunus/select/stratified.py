"""Stratified: as many rows from every interval of a score as it holds, at random (CCS of Zheng et al. 2022, without its cut).

Removes: rows of crowded strata, at random.
Needs: a score, of any sense; labels for `within="class"`.
Cost: O(n log n), memory about 5 n numbers.
Departures: the plain half of CCS, for scores whose hard end is clean or that say nothing of hardness. Strata have equal
  widths; equal counts by water-filling; `clip` for heavy tails. See select/ccs for the cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from prunus.core.registry import selector
from prunus.core.score import GroupScore, check_finite
from prunus.select.by_label import by_label, check_count, part
from prunus.select.ccs import check_strata, covering

if TYPE_CHECKING:
    from prunus.core.rng import Rng
    from prunus.select.by_label import Positions


@selector(card="ccs", within="all")
def stratified(
    score: GroupScore,
    count: int,
    *,
    strata: int = 50,
    clip: float = 0.0,
    within: Literal["all", "class"] = "all",
    rng: Rng,
) -> Positions:
    """Positions of rows that cover the whole range of a score.

    Args:
        score: whatever a large value means.
        count: rows kept.
        strata: intervals of equal width between the smallest and the largest score.
        clip: share of the rows at either end that the outermost strata take in whatever their score.
        within: all = one range; class = one for every label, counts in proportion (rows).
        rng: seed and purpose of the draws.

    Returns:
        int64 `[count]` positions.

    Raises:
        NonFinite: a value is NaN or infinite.
    """
    check_count(score, count)
    check_strata(strata, clip)
    check_finite(score.name, score.values, score.ids)
    if within == "class":
        return by_label(score, count, lambda at, few: covering(part(score, at), few, strata, clip, rng))
    return covering(score, count, strata, clip, rng)
