"""SUR, sparse uniform replay: pairs of rows from every distance to the centre of their class (Cheng et al. 2024).

Removes: rows of a class, evenly over all distances from its centre, so that what stays has the distribution of all.
Needs: embedding; labels for `within="class"`; `stability [n]` is used where it is among the signals: the cosine of a row's
  embedding with that of its shuffled tiles, from one more forward pass. The score is read by `rule="hard"` only.
Cost: O(n d + n log n), memory 16 n d bytes of the largest class.
Departures: the distance is |f - c|, as in the paper; the released code ranks by the product f . c (`key="dot"`). A class
  of n rows that keeps m has m // 2 chunks of its ranking, bounded at round(2 j n / m), so that every rank is in one; the
  released chunks of n // (m // 2) rows leave out the last row and often more. Exactly m different rows stay: the
  partner is another row than the anchor, and an odd one out is the most stable of the rest, where the released code
  returns fewer rows and may repeat some. The paper's stability is a cosine, the code's a product: any number that is
  large for stable rows will do. Without stability the anchor is the middle of its chunk and partners are compared after
  subtracting the centre: the released mode "sparse", which raises an error there because it subtracts a column. The
  centre is the mean; the code's moving average over the order of the data can be given as `centre`. rule="center",
  "moderate" and "hard" are the rules that the paper compares with, which also fill the count here.
  `parity="official"` returns the released picks in their order: often fewer than `count`, and under "hard" or among equal
  rows some that repeat, which no plan takes. On digits and on one class of CIFAR-10 what stays is about as like its class
  as random rows are without stability, and less so with it: stable rows are alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput, NonFinite
from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.maths.certified import power_of_two
from prunus.select.vectors import Vectors, choose, field_of, vectors

if TYPE_CHECKING:
    from prunus.select.by_label import Positions

Floats = NDArray[np.float64]
Rule = Literal["sparse", "center", "moderate", "hard"]


@dataclass(frozen=True, eq=False)
class Ranked:
    """The rows of one class, nearest its centre first; positions are among the rows in the order of their ids.

    Attributes:
        x: float64 `[n, d]`.
        centre: float64 `[d]`.
        order: int64 `[n]`.
        stability: float64 `[n]`, large for rows that change little, or None.
        preferred: int64 `[n]`, positions as the score ranks them, first to keep first.
    """

    x: Floats
    centre: Floats
    order: Positions
    stability: Floats | None
    preferred: Positions

    def pair(self, chunk: Positions, *, apart: bool) -> tuple[int, int]:
        """Anchor and partner of a chunk: its most stable row, or the middle one, and the one least like it.

        Args:
            chunk: positions, nearest first.
            apart: the partner is another row, where there is one.
        """
        at = chunk.size // 2 if self.stability is None else int(self.stability[chunk].argmax())
        rows = self.x[chunk] - self.centre if self.stability is None else self.x[chunk]
        norms = np.sqrt((rows * rows).sum(1))
        cosines = (rows * rows[at]).sum(1) / np.where(norms * norms[at] > 0, norms * norms[at], 1.0)
        if apart and chunk.size > 1:
            cosines[at] = np.inf
        return int(chunk[at]), int(chunk[cosines.argmin()])

    def surest(self) -> Positions:
        """Positions, the most stable first; without stability those nearest the middle of the ranking."""
        if self.stability is None:
            return self.middle()
        place = np.argsort(self.order)
        return np.lexsort((place, -self.stability))

    def middle(self) -> Positions:
        """Positions by the distance of their rank to the middle one."""
        away = np.abs(np.arange(self.order.size) - (self.order.size - 1) / 2)
        return self.order[np.argsort(away, kind="stable")]


@selector(needs=("embedding",), card="sur", within="class", memory="32 * n * d + 100 * n + 65536 * d")
def sur(
    score: GroupScore,
    count: int,
    *,
    rule: Literal["sparse", "center", "moderate", "hard"] = "sparse",
    key: Literal["l2", "dot"] = "l2",
    centre: NDArray[np.floating] | None = None,
    within: Literal["all", "class"] = "class",
    parity: Literal["paper", "official"] = "paper",
) -> Positions:
    """Positions of rows that lie at all distances from the centre of their class, in pairs, near ones first.

    Args:
        score: with `embedding [n, d]` among its signals, and perhaps `stability [n]`; rule="hard" reads the score itself.
        count: rows kept.
        rule: sparse = pairs from every distance; center = the nearest; moderate = half of them nearest, half around the
            middle of the ranking; hard = half nearest, half first in the ranking of the score.
        key: distance to the centre: l2, or dot for minus the product with it (official always).
        centre: `[d]`, in place of the mean of the rows; for within="all".
        within: class = as published, counts in proportion; all = rows of one class, or without labels.
        parity: paper, or official for the released picks, fewer than `count` and perhaps repeated.

    Returns:
        int64 `[count]` positions; a count of 1 is the most stable row.

    Raises:
        BadInput: no embedding, an impossible count, a centre of another width or with within="class".
        NonFinite: an embedding, a stability or a score is NaN or infinite.
    """
    if rule not in ("sparse", "center", "moderate", "hard") or key not in ("l2", "dot"):
        raise BadInput(f"rule is sparse, center, moderate or hard and key l2 or dot, not {rule!r} and {key!r}")
    if centre is not None and within == "class":
        raise BadInput("one centre can't serve every label: leave it out, or select with within='all'")
    if getattr(score.signals, "stability", None) is not None:
        _stability(score)  # also the rows of labels that keep nothing

    def one(piece: GroupScore, few: int) -> Positions:
        found = vectors(piece)
        ranked = _ranked(piece, found, "dot" if parity == "official" else key, centre)
        pick = _released if parity == "official" else _picked
        return found.order[pick(ranked, few, rule)]

    return choose(score, count, within, (), one)


def _ranked(piece: GroupScore, found: Vectors, key: str, centre: NDArray[np.floating] | None) -> Ranked:
    x = found.x.astype(np.float64)
    scale = power_of_two(np.asarray(piece.signals.embedding))  # what `vectors` did to rows of extreme size
    middle = x.mean(0) if centre is None else np.asarray(centre, dtype=np.float64) * scale
    if middle.shape != x.shape[1:] or not np.isfinite(middle).all():
        raise BadInput(f"the centre must be {x.shape[1]} finite numbers, not of shape {list(middle.shape)}")
    away = ((x - middle) ** 2).sum(1) if key == "l2" else -(x * middle).sum(1)
    stability = None
    if getattr(piece.signals, "stability", None) is not None:
        stability = _stability(piece)[found.order]
    preferred = np.argsort(found.order)[piece.keep_order()]
    return Ranked(x, middle, np.argsort(away, kind="stable"), stability, preferred)


def _stability(piece: GroupScore) -> Floats:
    found = field_of(piece, "stability")
    if found.ndim != 1:
        raise BadInput(f"stability must be one number for each row, not of shape {list(found.shape)}")
    if (wrong := ~np.isfinite(found)).any():
        raise NonFinite(
            f"stability is not finite in {int(wrong.sum())} rows, such as ids {piece.ids[wrong][:5].tolist()}"
        )
    return found.astype(np.float64)


def _picked(ranked: Ranked, count: int, rule: Rule) -> Positions:
    """Exactly `count` different rows."""
    if rule == "center":
        return ranked.order[:count]
    if rule == "sparse":
        bounds = [round(j * ranked.order.size / (count // 2)) for j in range(count // 2 + 1)] if count > 1 else []
        chunks = [ranked.order[low:high] for low, high in zip(bounds, bounds[1:])]
        pairs = [one for chunk in chunks for one in ranked.pair(chunk, apart=True)]
        return _filled(np.array(pairs, dtype=np.int64), ranked.surest(), count)
    rest = ranked.middle() if rule == "moderate" else ranked.preferred
    return _filled(ranked.order[: count - count // 2], rest, count)


def _filled(first: Positions, rest: Positions, count: int) -> Positions:
    """`first`, then the first of `rest` that are not among them."""
    return np.concatenate([first, rest[~np.isin(rest, first)]])[:count]


def _released(ranked: Ranked, count: int, rule: Rule) -> Positions:
    """As released: at most `count` rows, which may repeat."""
    n, order = ranked.order.size, ranked.order
    if count < 2:
        raise BadInput(
            f"the released code divides by count // 2 and can't keep {count} rows of a class: keep 2 or more"
        )
    if rule == "center":
        return order[: count // 2]
    if rule == "moderate":
        around = order[::-1][n // 2 - count // 8 : n // 2 + count // 8]
        return np.concatenate([order[: count // 4], around])
    if rule == "hard":
        return np.concatenate([order[: count // 4], ranked.preferred[: count // 4]])
    step = n // (count // 2)
    starts = range(0, n - step, step)[: -(-count // 2)]
    pairs = [ranked.pair(order[start : min(start + step, n - 1)], apart=False) for start in starts]
    return np.array(pairs, dtype=np.int64).reshape(-1)
