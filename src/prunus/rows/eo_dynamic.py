"""Dynamic curation: balanced over clusters that the model in training sees, drawn anew as it learns (Kerdreux et al. 2025).

Removes: rows, other ones in every period; none is lost, each period draws from all.
Needs: embeddings of all rows from the model in training, in evaluation mode and without augmentation, every few epochs
  (`embed`); no labels, no extractor made before. faiss.
Cost: for each period a pass over the rows, k-means of m rows, O(m k d iterations), and n k d for the others; in between
  nothing. n / 8 bytes of state; 4 n d bytes while drawing.
Departures: the paper's code is not public and its figures are not known: this follows its description and the published
  hierarchical sampling (behaviour only). After `warmup` epochs over all rows and then every `every` epochs: k-means of
  m = min(n, 500,000) rows by direction into `clusters` leaves, centroids clustered again into a tenth as many; the
  budget is shared from the top down, as equally as sizes allow, what is left at random (keyed hashes where the released
  sampling draws from numpy's global generator). How the paper's eta favours rows near or far from the centroid is not
  verified; here weights are exp(eta z). Embeddings that are nearly all alike (mean cosine above 0.99) have collapsed:
  that period trains on all rows, with a warning. Rows whose embedding is not finite or is zero stay, and are not
  clustered. Our choice: warmup and every a tenth of the epochs, half of the rows, min(10,000, n / 50) leaves.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.core.registry import dynamic
from prunus.core.rng import Rng
from prunus.maths import spherical
from prunus.rows import hierarchy
from prunus.rows.dynamic import EpochPlan, Ids, Rows, check_state

STATE = 1
COLLAPSED = 0.99
MOST_FIT = 500_000
ITERATIONS = 20
Embed = Callable[[Ids], Any]


@dynamic(unit="rows", needs=("embedding",), card="eo-dynamic", extras=("data",), name="eo_dynamic")
class EODynamic:
    """Rows balanced over the clusters of the embeddings that `embed` gives when a period begins."""

    def __init__(
        self,
        ids: ArrayLike,
        *,
        seed: int = 0,
        fraction: float = 0.5,
        count: int | None = None,
        epochs: int | None = None,
        warmup: int | None = None,
        every: int | None = None,
        clusters: tuple[int, ...] | None = None,
        eta: float = 0.0,
        final_full: int = 0,
        embed: Embed | None = None,
    ) -> None:
        """Check the options; embeds nothing yet.

        Args:
            ids: of the rows, int or text `[n]`, unique; their order does not matter.
            seed: of clusters and draws.
            fraction: share of the rows in an epoch after the warm-up; n = round(fraction * n), half to even.
            count: that number itself, in place of fraction.
            epochs: of the whole training.
            warmup: first epochs over all rows; None = a tenth of epochs, at least 1.
            every: epochs of one draw; None = a tenth of epochs, at least 1.
            clusters: of each level, the finest first; None = (min(10,000, n / 50), a tenth of it).
            eta: rows of a cluster are drawn with weights exp(eta * standardised distance to its centroid): 0 all alike,
                below 0 prototypes, above 0 the far ones; -inf and inf take the nearest and the farthest.
            final_full: last epochs over all rows (needs epochs; not in the paper).
            embed: `f(ids) -> [k, d]`, embeddings of these rows by the model as it is, in their order.

        Raises:
            BadInput: ids or options that can't be.
            BudgetUnreachable: no row, or more rows than there are.
        """
        self.rows, self.embed = Rows(ids), embed
        self.ids: Ids = self.rows.ids
        n, tenth = len(self.rows), max(round((epochs or 0) / 10), 1)
        self.count = round(fraction * n) if count is None else count
        if not 1 <= self.count <= n:
            raise BudgetUnreachable(
                f"an epoch of {self.count} of {n} rows is not possible", nearest=f"{min(max(self.count, 1), n)} rows"
            )
        leaves = max(min(10_000, n // 50), 1)
        self.clusters = (leaves, max(leaves // 10, 1)) if clusters is None else tuple(clusters)
        self.warmup = tenth if warmup is None else warmup
        self.every = tenth if every is None else every
        self.seed, self.epochs, self.eta, self.final_full = seed, epochs, eta, final_full
        if self.warmup < 0 or self.every < 1 or min(self.clusters, default=0) < 1 or np.isnan(eta):
            raise BadInput(f"warmup {self.warmup}, every {self.every}, clusters {self.clusters}, eta {eta}: can't be")
        if final_full and epochs is None:
            raise BadInput("final_full counts from the end: give epochs")
        self._drawn: tuple[int, NDArray[np.bool_]] | None = None  # period, rows in the order of the ids

    def epoch(self, t: int) -> EpochPlan:
        """The rows of epoch `t`, ids in order; embeds and draws where a period begins.

        Raises:
            BadInput: no `embed`, embeddings of another shape, or an epoch of a period that is over.
        """
        if self._everything(t):
            return EpochPlan(self.rows.sorted)
        period = (t - self.warmup) // self.every
        if self._drawn is None or period > self._drawn[0]:
            self._drawn = period, self._draw(period)
        if period < self._drawn[0]:
            raise BadInput(f"epoch {t} is over: rows were drawn anew since; load a state saved in epoch {t}")
        return EpochPlan(self.rows.sorted[self._drawn[1]])

    def size(self, t: int) -> int:
        """How many rows epoch `t` has; before its period begins, as many as it will unless embeddings collapse."""
        drawn = not self._everything(t) and self._drawn is not None
        if drawn and self._drawn is not None and self._drawn[0] == (t - self.warmup) // self.every:
            return int(self._drawn[1].sum())
        return self.bounds(t)[0]

    def bounds(self, t: int) -> tuple[int, int]:
        """All rows while warming up and at the end; else the count, or all rows if embeddings collapse."""
        n = len(self.rows)
        return (n, n) if self._everything(t) else (self.count, n)

    def seen(self, ids: Ids, loss: NDArray[np.floating]) -> None:
        """Nothing is learnt from losses."""

    def select(self, embedding: NDArray[np.floating], period: int = 0, tree: hierarchy.Hierarchy | None = None) -> Ids:
        """Ids (in order) that embeddings `[n, d]`, in the order of the sorted ids, lead to.

        Args:
            embedding: finite or not, see the module.
            period: of the training; it goes into the draws.
            tree: clusters made before; None = k-means.
        """
        return self.rows.sorted[self._balanced(np.asarray(embedding), period, tree)]

    def state_dict(self) -> dict[str, Any]:
        """The period and its rows."""
        period, kept = (-1, np.zeros(0, dtype=bool)) if self._drawn is None else self._drawn
        return {"period": period, "kept": np.packbits(kept), **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, in the middle of a period as well.

        Raises:
            IdMismatch: it belongs to other rows, or to another number of them.
            BadInput: it was made with another seed, other options or by a later prunus.
        """
        check_state(state, self._identity(), what="EODynamic")
        kept = np.unpackbits(np.asarray(state["kept"], dtype=np.uint8)).astype(bool)[: len(self.rows)]
        self._drawn = None if int(state["period"]) < 0 else (int(state["period"]), kept)

    def _everything(self, t: int) -> bool:
        if t < 0:
            raise BadInput(f"epochs count from 0, not {t}")
        return t < self.warmup or (self.epochs is not None and t >= self.epochs - self.final_full)

    def _draw(self, period: int) -> NDArray[np.bool_]:
        if self.embed is None:
            raise BadInput("rows are drawn from embeddings of the model in training: give embed=f(ids) -> [k, d]")
        found = self.embed(self.rows.sorted)
        return self._balanced(np.asarray(found.detach().cpu() if hasattr(found, "detach") else found), period, None)

    def _balanced(self, x: NDArray[np.floating], period: int, tree: hierarchy.Hierarchy | None) -> NDArray[np.bool_]:
        n = len(self.rows)
        if x.ndim != 2 or x.shape[0] != n or not x.shape[1]:
            raise BadInput(f"embed must give [{n}, d], not {list(x.shape)}")
        usable = np.asarray(np.isfinite(x).all(1) & x.any(1), dtype=np.bool_)
        kept = ~usable
        at, left = np.flatnonzero(usable), self.count - int(kept.sum())
        if left <= 0 or left >= at.size or (tree is None and collapsed(x[at])):
            return np.ones(n, dtype=bool)
        rng = Rng(self.seed, f"eo_dynamic/{period}")
        if tree is None:
            fit = rng.child("fit").sample(self.rows.sorted[at], min(at.size, MOST_FIT))
            seed = rng.child("kmeans").integer()
            tree = hierarchy.cluster(x[at], self.clusters, fit=fit, iterations=ITERATIONS, seed=seed)
        kept[at[hierarchy.draw(tree, self.rows.sorted[at], left, eta=self.eta, rng=rng)]] = True
        return kept

    def _identity(self) -> dict[str, Any]:
        names = ("seed", "count", "epochs", "warmup", "every", "eta", "final_full")
        options = {name: getattr(self, name) for name in names} | {"clusters": list(self.clusters)}
        return {"schema": STATE, "n": len(self.rows), "rows": self.rows.fingerprint(), "options": options}


def collapsed(x: NDArray[np.floating]) -> bool:
    """Whether the mean cosine of pairs is above 0.99, which is said in a warning."""
    directions = spherical.unit(x)
    total = directions.sum(0)
    pairs = x.shape[0] * (x.shape[0] - 1)
    cosine = (float(total @ total) - x.shape[0]) / pairs if pairs else 0.0
    if cosine > COLLAPSED:
        warnings.warn(
            f"embeddings have collapsed (mean cosine {cosine:.3f}): all rows train in this period", stacklevel=2
        )
    return cosine > COLLAPSED
