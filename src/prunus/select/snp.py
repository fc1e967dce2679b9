"""SnP, search and prune: the clusters of identities that together look most like a target, thinned to a budget (Yao et al. 2023).

Removes: rows: whole identities that are unlike the target, then identities at random, then rows that resemble kept ones.
Needs: embedding of the pool and of the target by the same encoder; labels, which name the identities (persons, speakers,
  users, classes); no labels of the target. Of the score only the ids.
Cost: two passes of n d^2 for moments and 2 k d^3 for distances to k clusters and prefixes; clusters of g identities
  O(g k d iterations) and more where many must move (20,000 identities of 64 numbers, 50 clusters: 17 s); thinning n d
  for each kept row. Memory 32 d^2 + 8 g k + 12 n d bytes.
Departures: clusters have g // k identities or one more; the released size g // k exactly exists only where k divides g.
  `clustering="halves"` is a tree of cuts instead of k-means. Roots of covariances come from symmetric eigenvalues and
  moments are added cluster by cluster, where the released code takes the root of a general matrix and stacks features
  anew for every prefix. No union is cut down to the target's size at random. The prefix is the best of those that hold
  `count` rows: a budget is met where the paper's search may have ended before it. Kept identities are those whose
  number is asked for; by default all that were found, or `count` of them where the budget is smaller, with one row each
  (released: a negative number of rows to add). Thinning starts from the first row by id of every kept identity; the
  released call passes an empty mask, so that these rows repel nothing, and begins at the first row that is left
  (`parity="official"`, which also takes the best of all prefixes). Draws are keyed hashes. prefer="nearest" is the
  paper's greedy control. A distance from fewer rows than dimensions is too large and a warning says so: use `components`.
  A small distance is no proof of good rows: on CIFAR-10 with distractors the union found held many of them (docs/results).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.select.by_label import check_count, part
from prunus.select.identity_search import Search, search
from prunus.select.k_center import farthest_first
from prunus.select.vectors import Vectors, vectors
from prunus.signals.target import Target

if TYPE_CHECKING:
    from prunus.core.rng import Rng
    from prunus.select.by_label import Positions


@selector(needs=("embedding",), card="snp", memory="12 * n * d + 32 * d * d + 8 * n * clusters + 120 * n + 65536 * d")
def snp(
    score: GroupScore,
    count: int,
    *,
    target: str | Target | None = None,
    by: str = "labels",
    clusters: int = 50,
    clustering: Literal["kmeans", "halves"] = "kmeans",
    components: int | None = None,
    identities: int | None = None,
    prefer: Literal["random", "nearest"] = "random",
    thin: Literal["farthest", "random"] = "farthest",
    given: Positions | None = None,
    parity: Literal["paper", "official"] = "paper",
    rng: Rng,
) -> Positions:
    """Positions of rows of the pool to train on for a target: one of each kept identity first, then those that are added.

    Args:
        score: its ids, and `embedding [n, d]` and the identities among its signals.
        count: rows kept.
        target: features of the target: a folder of signals or a table with embedding; signals, or an array `[t, d]`.
        by: signal that names the identity of each row; "" makes every row one of its own.
        clusters: of identities; at most one for each.
        clustering: of equal sizes: kmeans, or halves along the direction of largest spread.
        components: compare that many principal components of the pool; None = all features.
        identities: how many of those found are kept; None = all, or as many as rows.
        prefer: which: random, or those of the nearest clusters.
        thin: rows added to the first of each identity: farthest from all that are kept, or random.
        given: `[g]`, the cluster of each identity in ascending order of their names, made before.
        parity: paper, or official for the released search and thinning.
        rng: seed of the draws.

    Returns:
        int64 `[count]` positions.

    Raises:
        BadInput: no target, no identities, an impossible count or option.
        NonFinite: an embedding, the target or a score is NaN or infinite.
        BudgetUnreachable: the identities that are kept hold fewer than `count` rows, or more are asked for than found.
    """
    if prefer not in ("random", "nearest") or thin not in ("farthest", "random"):
        raise BadInput(f"prefer is random or nearest and thin farthest or random, not {prefer!r} and {thin!r}")
    check_count(score, count)
    if not count:
        return np.zeros(0, dtype=np.int64)
    pool = search(score, target, by=by, clusters=clusters, clustering=clustering, components=components, given=given)
    chosen = _identities(pool, count, identities, prefer, parity, rng)
    rows = np.flatnonzero(np.isin(pool.of, chosen))
    if rows.size < count:
        raise BudgetUnreachable(
            f"{chosen.size} identities hold {rows.size} rows, not {count}: keep more of them",
            nearest=f"{rows.size} rows",
        )
    return rows[thinned(vectors(part(score, rows)), pool.of[rows], count, thin=thin, parity=parity, rng=rng)]


def thinned(
    found: Vectors,
    of: Positions,
    count: int,
    *,
    thin: Literal["farthest", "random"] = "farthest",
    parity: Literal["paper", "official"] = "paper",
    rng: Rng,
) -> Positions:
    """`count` rows: the first of each identity, then those that are added; positions as in `of`, int64 `[count]`.

    Args:
        found: vectors of the rows.
        of: int64 `[n]`, the identity of each row.
        count: at least as many as identities.
        thin, parity, rng: as `snp`.
    """
    first = np.sort(np.unique(of[found.order], return_index=True)[1])
    rest = np.setdiff1d(np.arange(of.size), first)
    if thin == "random":
        added = rest[rng.child("rows").sample(found.ids[rest], count - first.size)]
    elif parity == "official":
        alone = Vectors(found.x[rest], found.ids[rest], rest)
        begin = np.zeros(min(1, count - first.size), dtype=np.int64)
        added = rest[farthest_first(alone, begin, count - first.size)] if begin.size else rest[:0]
    else:
        added = farthest_first(found, first, count)[first.size :]
    return found.order[np.concatenate([first, added])]


def _identities(pool: Search, count: int, identities: int | None, prefer: str, parity: str, rng: Rng) -> Positions:
    """Positions of the identities that are kept."""
    found = pool.found(1 if parity == "official" else count)
    few = min(found.size, count) if identities is None else identities
    if not 1 <= few <= min(found.size, count):
        most = min(found.size, count)
        raise BudgetUnreachable(
            f"{few} identities can't be kept of {found.size} that were found, with {count} rows",
            nearest=f"{most} identities",
        )
    if prefer == "nearest":
        return found[np.lexsort((found, -pool.nearness()[found]))[:few]]
    return found[rng.child("identities").sample(pool.identities[found], few)]
