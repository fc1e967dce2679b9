"""SemDeDup: of near duplicates in an embedding, keep the first of each cluster's ranking (Abbas et al. 2023).

Removes: rows that resemble an earlier row of their cluster.
Needs: an embedding of each row among the signals; of the score only the ids, and its ranking for keep="score". faiss.
Cost: k-means O(n k d iterations), then n_j^2 d / 2 for a cluster of n_j rows: n * 500 d at 1000 rows a cluster.
  greedy without eps repeats that up to 30 times; components takes n_j products of a cluster with one row. Memory
  8 n d bytes, then 12 n_j d and a block of cosines of at most 256 MiB.
Departures: rows are scaled to length 1 here (the released code trusts its input); its README has the direction of eps
  wrong: a larger eps removes more, in its code as here. `count` chooses eps: rows go in the order of their similarity
  to an earlier row, ties by id (the larger goes), so a smaller count keeps a subset (official, components). Ties of
  the distance to the centroid are broken by id instead of by place; a zero vector is refused. Clusters hold about
  1000 rows by default, all of a small set (the paper: 8,800 of 440 million); fewer clusters find more duplicates.
  Under the official rule a row goes even if the one it resembles went too, so chains erode; `rule="greedy"` compares
  with kept rows only and guarantees that every row that goes is within eps of one that stays: better wherever eps
  matters more than parity. `components` keeps the first row of every connected chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.maths import near_duplicates as near
from prunus.maths.near_duplicates import Earlier, Rule
from prunus.maths.spherical import Clusters
from prunus.select.embedded import Embedded, embedded

if TYPE_CHECKING:
    from prunus.core.rng import Rng
    from prunus.select.by_label import Positions

Keep = Literal["hard", "easy", "random", "score"]
PER_CLUSTER = 1000


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Near duplicates of the rows of a score, in the order of the score.

    Attributes:
        clusters: of the rows.
        order: int64 `[n]`, rows cluster by cluster, first to stay first.
        earlier: for each row, the most similar earlier one. Under greedy: the most similar KEPT one at `eps`.
        eps: of the greedy rule; None where any eps can be asked.
    """

    clusters: Clusters
    order: Positions
    earlier: Earlier
    eps: float | None = None

    def removed(self, eps: float) -> NDArray[np.bool_]:
        """Which rows go at eps, bool `[n]`."""
        if self.eps is not None and eps != self.eps:
            raise BadInput(f"under the greedy rule these duplicates hold for eps {self.eps:g} only, not {eps:g}")
        return self.earlier.removed(eps)

    def curve(self, eps: NDArray[np.floating]) -> Positions:
        """Rows that stay at each eps, int64, from the one pass that was made."""
        if self.eps is not None:
            raise BadInput("the curve of the greedy rule needs a pass for each eps; rule='official' has it from one")
        return self.earlier.kept_by(eps)

    def eps_for(self, count: int) -> float:
        """The smallest eps at which at most `count` rows stay; ties can make them fewer."""
        below = np.sort(self.earlier.similarity)
        if not 0 <= count <= below.size:
            raise BadInput(f"can't keep {count} of {below.size} rows")
        return float(1 - below[count] + near.HALF_STEP) if count < below.size else 0.0

    def pairs(self, eps: float) -> NDArray[np.int64]:
        """Each row that goes and the kept row that stands for it, int64 `[removed, 2]`.

        Under official and components the second is reached through the witnesses of witnesses, so that the two may
        be farther apart than eps; under greedy they are within eps.
        """
        gone = self.removed(eps)
        return np.stack([np.flatnonzero(gone), self.earlier.representatives(gone)[gone]], axis=1)


@selector(
    needs=("embedding",),
    card="semdedup",
    extras=("data",),
    memory="8 * n * d + 120 * n + 100000 * d + min(268435456, 16 * n * n)",
)
def semdedup(
    score: GroupScore,
    count: int,
    *,
    eps: float | None = None,
    rule: Literal["official", "greedy", "components"] = "official",
    keep: Literal["hard", "easy", "random", "score"] = "hard",
    clusters: int | None = None,
    iterations: int = 20,
    given: Clusters | None = None,
    rng: Rng,
) -> Positions:
    """Positions of rows of which few resemble each other.

    Args:
        score: its ids, and the embedding among its signals.
        count: rows kept.
        eps: rows with a cosine above 1 - eps to an earlier one go in any case; None = as far as `count` asks.
        rule: official = compare with all earlier rows; greedy = with kept ones; components = follow chains.
        keep: which of near duplicates stays: hard = farthest from the centroid, easy = nearest, random, or score = the
            first in the ranking of the score.
        clusters: rows are compared inside clusters only; None = one for every 1000 rows.
        iterations: of k-means.
        given: clusters of the rows made before; None = k-means.
        rng: seed of the clusters and of keep="random".

    Returns:
        int64 `[count]` positions.

    Raises:
        BudgetUnreachable: with eps given, fewer than `count` rows are left.
    """
    near.check_rule(rule, eps)
    rows = embedded(score, count, "semdedup")
    if not count or count == rows.ids.size:
        return np.sort(rows.at)[:count]
    made, order = _ranked(score, rows, keep, clusters, iterations, given, rng)
    found, limit = _earlier(rows, made, order, rule, eps, count)
    left = int(rows.ids.size - found.removed(limit).sum()) if eps is not None else rows.ids.size
    if left < count:
        raise BudgetUnreachable(
            f"at eps {eps} only {left} of {rows.ids.size} rows are left, so {count} can't be kept",
            nearest=f"{left} rows, or a smaller eps",
        )
    # Under greedy, rows that stay may be more similar to each other than nothing: the least different go next.
    key = np.where(found.witness >= 0, found.similarity, -1.0)
    return rows.at[np.argsort(key, kind="stable")[:count]]


def stays(score: GroupScore, *, eps: float | None = None, rng: Rng, **options: Any) -> Positions | None:
    """Positions of the rows that are left at `eps`, whatever a count asks; None without eps (see select/chain)."""
    if eps is None:
        return None
    near.check_rule(options.get("rule", "official"), eps)
    found = duplicates(score, eps=eps if options.get("rule") == "greedy" else None, rng=rng, **options)
    return np.flatnonzero(~found.removed(eps))


def duplicates(
    score: GroupScore,
    *,
    eps: float | None = None,
    rule: Rule = "official",
    keep: Keep = "hard",
    clusters: int | None = None,
    iterations: int = 20,
    given: Clusters | None = None,
    rng: Rng,
) -> Duplicates:
    """What semdedup knows of each row: similarity, witness, the curve over eps. Arguments as `semdedup`.

    Args:
        eps: needed under the greedy rule, whose answer is another one at each eps.

    Returns:
        Duplicates in the order of the score.
    """
    near.check_rule(rule, eps)
    if (rule == "greedy") != (eps is not None):
        raise BadInput("give eps under the greedy rule, and only there: the others hold for every eps")
    rows = embedded(score, 0, "semdedup")
    made, order = _ranked(score, rows, keep, clusters, iterations, given, rng)
    found, _ = _earlier(rows, made, order, rule, eps, 0)
    back = np.argsort(rows.at)
    witness = np.where(found.witness >= 0, rows.at[found.witness], -1)[back]
    return Duplicates(made.take(back), rows.at[order], Earlier(found.similarity[back], witness), eps)


def _ranked(
    score: GroupScore,
    rows: Embedded,
    keep: Keep,
    clusters: int | None,
    iterations: int,
    given: Clusters | None,
    rng: Rng,
) -> tuple[Clusters, Positions]:
    """Clusters, and the rows of each in the order in which they stay."""
    number = -(-rows.ids.size // PER_CLUSTER) if clusters is None else clusters
    made = rows.clusters(number, iterations, given, rng)
    if keep in ("hard", "easy"):
        first = -made.distance if keep == "hard" else made.distance
    elif keep == "random":
        first = rng.child("order").uniform(rows.ids)
    elif keep == "score":
        first = np.empty(rows.ids.size)
        first[np.argsort(rows.at)[score.keep_order()]] = np.arange(rows.ids.size)
    else:
        raise BadInput(f"keep is hard, easy, random or score, not {keep!r}")
    return made, near.cluster_order(made.assigned, first)


def _earlier(
    rows: Embedded, made: Clusters, order: Positions, rule: Rule, eps: float | None, count: int
) -> tuple[Earlier, float]:
    if rule != "greedy":
        return near.earlier(rows.x, made.assigned, order, chained=rule == "components"), 0.0 if eps is None else eps
    if eps is not None:
        return near.greedy(rows.x, made.assigned, order, eps)[0], eps
    limit, found = near.greedy_count(rows.x, made.assigned, order, count)
    return found, limit
