"""DBP: density-based pruning, more of the clusters that are wide and far from others (Abbas et al. 2024).

Removes: rows, most from dense clusters next to others.
Needs: an embedding of each row among the signals; of the score only the ids. No labels. faiss. Near duplicates must
  go first, or they fill clusters of their own: a plan by select/semdedup before this one, or `dedup`.
Cost: k-means O(n k d iterations), k^2 d between centroids, the allocation O(k log k), then one sort of n distances.
  Memory 8 n d bytes.
Departures: the counts are the exact projection and add up to the budget, where the released code rounds the answer
  of an iterative solver and misses it by a few rows. Its "easy" keeps whole clusters that should keep nothing, its
  "random" keeps what it should drop, and empty clusters get a floor of -1: none of this is followed. Ties of the
  distance go by id. The paper's temperature is not known to us (its code: 0.5, nearly equal counts); 0.1 here. The
  paper takes 500 clusters for 280 million pairs; here sqrt(n), at most 100. A floor of 1 in each cluster is dropped
  where the budget is smaller than the clusters are many. Complexities of empty clusters count as the mean. On digits
  with near-copies (card) deduplication does most of the work, and at small budgets deduplicated random rows win.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from prunus.allocate.apportion import whole
from prunus.allocate.closest import project, softmax
from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.maths.spherical import Clusters, Floats
from prunus.select.by_label import part
from prunus.select.embedded import Embedded, embedded
from prunus.select.semdedup import duplicates

if TYPE_CHECKING:
    from prunus.core.rng import Rng
    from prunus.select.by_label import Positions

MOST = 100


@dataclass(frozen=True, eq=False)
class Allocation:
    """How many rows each cluster keeps, and why.

    Attributes:
        intra: float64 `[k]`, mean distance of the rows of a cluster to its centroid; NaN where it has none.
        inter: float64 `[k]`, mean distance of a centroid to the nearest others; NaN with one cluster.
        complexity: float64 `[k]`, their product.
        share: float64 `[k]`, the softmax: what each cluster should get, as a share of the budget.
        floors: int64 `[k]`, least rows of each cluster.
        exact: float64 `[k]`, the projection onto floors and sizes.
        counts: int64 `[k]`, rounded by largest remainder, ties to the lower number.
    """

    intra: Floats
    inter: Floats
    complexity: Floats
    share: Floats
    floors: Positions
    exact: Floats
    counts: Positions


@selector(
    needs=("embedding",),
    card="dbp",
    extras=("data",),
    memory="8 * n * d + 120 * n + 65536 * d + (min(268435456, 16 * n * n) if dedup else 0)",
)
def dbp(
    score: GroupScore,
    count: int,
    *,
    clusters: int | None = None,
    iterations: int = 100,
    temperature: float = 0.1,
    neighbours: int = 20,
    floor: int | None = None,
    balance: float = 0.0,
    complexity: Literal["density", "size", "uniform"] = "density",
    keep: Literal["hard", "easy", "random"] = "hard",
    dedup: float = 0.0,
    given: Clusters | None = None,
    rng: Rng,
) -> Positions:
    """Positions of rows, each cluster keeping what its complexity earns.

    Args:
        score: its ids, and the embedding among its signals.
        count: rows kept.
        clusters: concepts to look for; None = sqrt(n), at most 100.
        iterations: of k-means.
        temperature: of the softmax over complexities; large makes counts equal.
        neighbours: nearest other centroids that count for the distance between clusters.
        floor: least rows of a cluster, below its size; None = 1 where the budget allows it.
        balance: least rows of a cluster as a share of count / clusters, in place of `floor`.
        complexity: density = as published; size = the share of rows; uniform = equal.
        keep: rows of a cluster that stay: hard = farthest from the centroid, easy = nearest, or random.
        dedup: first drop rows with a cosine above 1 - dedup to a kept one (greedy rule); 0 = they are distinct.
        given: clusters of the rows made before; None = k-means.
        rng: seed of the clusters and of keep="random".

    Returns:
        int64 `[count]` positions.

    Raises:
        BudgetUnreachable: the floors need more than `count`, or deduplication leaves fewer.
    """
    rows = embedded(score, count, "dbp")
    if dedup:
        return _deduplicated(score, count, dedup, given, rng, {
            "clusters": clusters, "iterations": iterations, "temperature": temperature, "neighbours": neighbours,
            "floor": floor, "balance": balance, "complexity": complexity, "keep": keep,
        })  # fmt: skip
    if not count or count == rows.ids.size:
        return np.sort(rows.at)[:count]
    number = default_clusters(rows.ids.size) if clusters is None else clusters
    made = rows.clusters(number, iterations, given, rng)
    split = allocation(
        made, count, temperature=temperature, neighbours=neighbours, floor=floor, balance=balance, complexity=complexity
    )
    order = np.lexsort((_first(rows, made, keep, rng), made.assigned))
    starts = np.cumsum(made.sizes) - made.sizes
    place = np.arange(order.size) - starts[made.assigned[order]]
    return rows.at[order[place < split.counts[made.assigned[order]]]]


def default_clusters(rows: int) -> int:
    """About sqrt(n), at most 100."""
    return min(MOST, max(1, round(rows**0.5)))


def allocation(
    made: Clusters,
    count: int,
    *,
    temperature: float = 0.1,
    neighbours: int = 20,
    floor: int | None = None,
    balance: float = 0.0,
    complexity: Literal["density", "size", "uniform"] = "density",
) -> Allocation:
    """The counts of the clusters and the numbers behind them. Arguments as `dbp`."""
    sizes = made.sizes
    with np.errstate(invalid="ignore"):
        intra = np.bincount(made.assigned, made.distance, minlength=sizes.size) / np.where(sizes, sizes, np.nan)
    inter = between(made.centroids, neighbours)
    product = intra * inter
    weights = {"density": product, "size": sizes / max(int(sizes.sum()), 1), "uniform": np.zeros(sizes.size)}
    if complexity not in weights:
        raise BadInput(f"complexity is density, size or uniform, not {complexity!r}")
    share = softmax(weights[complexity], temperature)
    floors = _floors(sizes, count, floor, balance)
    if not floors.sum() <= count <= sizes.sum():
        raise BudgetUnreachable(
            f"floors of {sizes.size} clusters need {floors.sum()} of {sizes.sum()} rows, and {count} are to be kept",
            nearest=f"{min(max(count, int(floors.sum())), int(sizes.sum()))} rows",
        )
    exact = project(count * share, floors, sizes, count)
    return Allocation(intra, inter, product, share, floors, exact, whole(exact, sizes, count))


def between(centroids: Floats, neighbours: int) -> Floats:
    """Mean of 1 - cosine to the nearest other centroids, float64 `[k]`; NaN where there is no other."""
    if neighbours < 1:
        raise BadInput(f"neighbours must be at least 1, not {neighbours}")
    number = centroids.shape[0]
    few = min(neighbours, number - 1)
    if not few:
        return np.full(number, np.nan)
    found = np.empty(number)
    for cluster in range(number):
        cosines = np.delete(centroids @ centroids[cluster], cluster)
        found[cluster] = 1 - np.sort(cosines)[-few:].mean()
    return found


def _floors(sizes: Positions, count: int, floor: int | None, balance: float) -> Positions:
    """Least rows of each cluster; at most one less than it has."""
    if not 0 <= balance <= 1 or (floor is not None and floor < 0) or (balance and floor is not None):
        raise BadInput(f"give floor, at least 0, or balance, in [0, 1]; not floor {floor} with balance {balance}")
    if balance:
        floor = int(count / sizes.size * balance)
    elif floor is None:
        floor = int(count >= sizes.size)
    return np.minimum(floor, np.maximum(sizes - 1, 0)).astype(np.int64)


def _first(rows: Embedded, made: Clusters, keep: str, rng: Rng) -> Floats:
    """What ranks the rows of a cluster, small first."""
    if keep not in ("hard", "easy", "random"):
        raise BadInput(f"keep is hard, easy or random, not {keep!r}")
    if keep == "random":
        return rng.child("order").uniform(rows.ids)
    return -made.distance if keep == "hard" else made.distance


def _deduplicated(
    score: GroupScore, count: int, eps: float, given: Clusters | None, rng: Rng, options: dict[str, object]
) -> Positions:
    """The same over the rows that are left, clustered anew."""
    if given is not None:
        raise BadInput("rows are clustered anew once near duplicates are gone: give clusters, or dedup, not both")
    gone = duplicates(score, eps=eps, rule="greedy", rng=rng.child("dedup")).removed(eps)
    left = np.flatnonzero(~gone)
    if left.size < count:
        raise BudgetUnreachable(
            f"without near duplicates (dedup {eps:g}) {left.size} rows are left, not {count}",
            nearest=f"{left.size} rows",
        )
    return left[dbp(part(score, left), count, **options, rng=rng)]  # type: ignore[arg-type]
