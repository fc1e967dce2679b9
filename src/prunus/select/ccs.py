"""CCS: coverage-centric coreset selection, strata of a difficulty score after a cut of the hardest (Zheng et al. 2022).

Removes: rows: the hardest share (suspected noise), then rows of crowded strata, at random.
Needs: a hard or easy score; a second one as `cut_score` where the cut goes by another criterion (the released code
  cuts by AUM).
Cost: O(n log n), memory about 5 n numbers.
Departures: the last stratum is closed on the right. The released code multiplies the maximum by 1.0001 instead, which
  loses the top rows when the maximum is not above 0; a constant score becomes one stratum (plain random sampling),
  where the released code keeps nothing if the constant is 0 or less. Ties of the cut: the larger id goes first. A
  budget that the cut makes unreachable is an error where the released code returns fewer rows. The draw inside a
  stratum is by keyed hash. `parity="official"` does all of this as released: float32 edges, torch's sort between
  strata of equal size, and one torch.randperm for each stratum, in ascending order, from a generator seeded with the
  seed of `rng`. `hard_cut="auto"` interpolates the table of the paper's appendix for AUM on CIFAR-10 by the share
  that goes: 0 up to 50 %, 0.1 at 70 %, 0.2 at 80 %, 0.3 at 90 % and above. The released README uses the same numbers
  at 80 and 90 % on ImageNet. It is the authors' grid search, not an estimate of the noise in the data at hand.
  Digits, 5 seeds (benchmarks/ccs_digits.py), 10 % kept: clean labels auto 0.910, best cut (0.1) 0.919, no cut 0.891,
  random 0.910; 20 % wrong labels auto 0.902, no cut 0.614, random 0.712. At 30 % kept with 20 % wrong labels it cuts
  too little: auto 0.832, a cut of 0.3 0.938. Set hard_cut where the share of wrong labels is known.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from prunus.allocate.request import Request
from prunus.allocate.strata import fill
from prunus.allocate.strata import strata as water_filling
from prunus.core import registry
from prunus.core.errors import BadInput, BudgetUnreachable, IdMismatch
from prunus.core.registry import selector
from prunus.core.score import GroupScore, Score, check_finite
from prunus.select.by_label import by_label, check_count, part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunus.core.rng import Rng
    from prunus.select.by_label import Positions

    Strata = NDArray[np.int64]

SHARE_DROPPED = (0.5, 0.7, 0.8, 0.9)
HARD_CUT = (0.0, 0.1, 0.2, 0.3)


@selector(card="ccs", within="all")
def ccs(
    score: GroupScore,
    count: int,
    *,
    cut_score: str | Score | GroupScore | None = None,
    hard_cut: float | Literal["auto"] = "auto",
    strata: int = 50,
    clip: float = 0.0,
    within: Literal["all", "class"] = "all",
    parity: Literal["paper", "official"] = "paper",
    rng: Rng,
) -> Positions:
    """Positions of a coreset that covers the easy rows as well as the hard ones.

    Args:
        score: hard or easy.
        count: rows kept, out of all n.
        cut_score: what the hard cut goes by: the name of a criterion over the same signals (aum), or a score that has
            these ids; None means `score`.
        hard_cut: share of all n rows, the hardest, that is dropped first; auto goes by the share that is dropped.
        strata: intervals of equal width between the smallest and the largest remaining score.
        clip: share of the remaining rows at either end that the outermost strata take in whatever their score; for
            heavy-tailed scores (loss, GraNd) whose outliers would leave most strata empty.
        within: all = as published; class = all steps inside every label, counts in proportion (rows).
        parity: paper, or official for the released routine with its defects.
        rng: seed and purpose of the draws.

    Returns:
        int64 `[count]` positions.

    Raises:
        BudgetUnreachable: the hard cut leaves fewer than `count` rows.
        NonFinite: a value is NaN or infinite.
    """
    check_count(score, count)
    _check_options(strata, clip, hard_cut)
    score.hardness()  # refuses a score that does not say what is hard
    cut = cut_scores(score, cut_score)
    check_finite(score.name, score.values, score.ids)
    select = _official if parity == "official" else _covering

    def one(piece: GroupScore, cut_piece: GroupScore, few: int) -> Positions:
        dropped = cut_count(piece.values.shape[0], few, hard_cut)
        return select(piece, cut_piece, few, dropped, strata, clip, rng)

    if within == "class":
        return by_label(score, count, lambda positions, few: one(part(score, positions), part(cut, positions), few))
    return one(score, cut, count)


def cut_count(n: int, count: int, hard_cut: float | Literal["auto"] = "auto") -> int:
    """How many of the hardest rows are dropped first: the integer part of the share of all n.

    Raises:
        BudgetUnreachable: fewer than `count` would be left.
    """
    share = float(np.interp(1 - count / n, SHARE_DROPPED, HARD_CUT)) if hard_cut == "auto" and n else hard_cut
    dropped = 0 if share == "auto" else int(float(share) * n)
    if n - dropped < count:
        nearest = f"{n - dropped} rows, or hard_cut {math.floor(1000 * (n - count) / n) / 1000:g}"
        raise BudgetUnreachable(
            f"hard_cut {share} drops {dropped} of {n} rows, so {count} can't be kept", nearest=nearest
        )
    return dropped


def stratify(values: NDArray[np.floating], strata: int, clip: float = 0.0) -> Strata:
    """The stratum of each value, int64 `[n]` in 0..strata-1: equal widths from the smallest to the largest value.

    The last stratum is closed on the right; a constant score is one stratum.
    """
    if values.size == 0:
        return np.zeros(0, dtype=np.int64)
    low, high = (float(v) for v in (np.quantile(values, [clip, 1 - clip]) if clip else (values.min(), values.max())))
    if not low < high:
        return np.zeros(values.size, dtype=np.int64)
    scaled = (values.astype(np.float64) - low) * (strata / (high - low))
    return np.clip(scaled, 0, np.nextafter(strata, 0)).astype(np.int64)


def stratify_official(values: NDArray[np.floating], strata: int) -> Strata:
    """As released: float32 edges `low + i * step` up to 1.0001 times the maximum; -1 where a value is in no stratum."""
    import torch

    tensor = torch.as_tensor(np.ascontiguousarray(values, dtype=np.float32))
    found = torch.full(tensor.shape, -1, dtype=torch.int64)
    if tensor.numel() == 0:
        return found.numpy()
    low = tensor.min()
    step = (tensor.max() * 1.0001 - low) / strata
    for i in range(strata):
        found[(tensor >= low + i * step) & (tensor < low + (i + 1) * step)] = i
    return found.numpy()


def counts_official(sizes: Strata, count: int) -> Strata:
    """As released: water-filling over torch's unstable argsort, which decides between strata of equal size; int64 `[k]`."""
    import torch

    order = torch.argsort(torch.as_tensor(sizes)).numpy()
    counts = np.empty_like(sizes)
    counts[order] = fill(sizes[order], count)
    return counts


def _covering(
    score: GroupScore, cut: GroupScore, count: int, dropped: int, strata: int, clip: float, rng: Rng
) -> Positions:
    left = easier(cut, dropped)
    return left[covering(GroupScore(score.values[left], score.ids[left], score.sense), count, strata, clip, rng)]


def covering(score: GroupScore, count: int, strata: int, clip: float, rng: Rng) -> Positions:
    """Positions of equal counts from every stratum (water-filling), drawn at random, int64 `[count]`."""
    found = stratify(score.values, strata, clip)
    counts = water_filling(Request.of(np.bincount(found, minlength=strata), count))
    kept = [np.zeros(0, dtype=np.int64)]
    for stratum in np.flatnonzero(counts):
        pool = np.flatnonzero(found == stratum)
        kept.append(pool[rng.sample(score.ids[pool], int(counts[stratum]))])
    return np.concatenate(kept)


def easier(cut: GroupScore, dropped: int) -> Positions:
    """Positions without the `dropped` hardest; among equals the larger id goes."""
    if dropped == 0:
        return np.arange(cut.values.shape[0])
    hardness = cut.hardness()
    border = np.partition(hardness, hardness.size - dropped)[hardness.size - dropped]
    tied = np.flatnonzero(hardness == border)
    room = hardness.size - dropped - int((hardness < border).sum())
    stay = hardness < border
    stay[tied[np.argsort(cut.ids[tied], kind="stable")][:room]] = True
    return np.flatnonzero(stay)


def _official(
    score: GroupScore, cut: GroupScore, count: int, dropped: int, strata: int, clip: float, rng: Rng
) -> Positions:
    import torch

    if clip:
        raise BadInput("the released code does not clip: use clip=0 with parity='official'")
    order = torch.argsort(torch.as_tensor(np.ascontiguousarray(cut.values)), descending=cut.sense == "hard")
    left = order.numpy()[dropped:]
    found = stratify_official(score.values[left], strata)
    counts = counts_official(np.bincount(found[found >= 0], minlength=strata), count)
    generator = torch.Generator().manual_seed(rng.seed)
    kept = [np.zeros(0, dtype=np.int64)]
    for stratum in range(strata):
        pool = left[found == stratum]
        kept.append(pool[torch.randperm(pool.size, generator=generator).numpy()[: counts[stratum]]])
    return np.concatenate(kept)


def cut_scores(score: GroupScore, given: str | Score | GroupScore | None) -> GroupScore:
    """The score that the hard cut goes by, in the order of the score's ids."""
    if given is None:
        return score
    if isinstance(given, Score):
        given = given.group(score.name)
    if isinstance(given, str):
        method = registry.find(given, unit="rows", kind="criterion")
        if score.signals is None:
            raise BadInput(f"cut_score={given!r} is computed from signals, and none came with the score")
        values = np.asarray(method.load()(score.signals))
        given = GroupScore(values, score.ids, method.facts.get("sense", "keep"), None, method.id)
    given.hardness()
    check_finite(given.name, given.values, given.ids)
    if np.array_equal(given.ids, score.ids):
        return given
    order = np.argsort(given.ids, kind="stable")
    place = np.searchsorted(given.ids[order], score.ids).clip(max=max(given.ids.size - 1, 0))
    if given.ids.size < score.ids.size or not np.array_equal(given.ids[order][place], score.ids):
        raise IdMismatch(f"cut_score lacks some of the {score.ids.size} ids of the score; it has {given.ids.size} ids")
    return part(GroupScore(given.values, given.ids, given.sense, None, given.name), order[place])


def check_strata(strata: int, clip: float) -> None:
    """Refuse no strata, and ends that meet in the middle."""
    if strata < 1:
        raise BadInput(f"strata must be at least 1, not {strata}")
    if not 0 <= clip < 0.5:
        raise BadInput(f"clip must lie in [0, 0.5), not {clip}")


def _check_options(strata: int, clip: float, hard_cut: float | str) -> None:
    check_strata(strata, clip)
    if isinstance(hard_cut, str) and hard_cut != "auto":
        raise BadInput(f"hard_cut is a share or 'auto', not {hard_cut!r}")
    if not isinstance(hard_cut, str) and not 0 <= hard_cut < 1:
        raise BadInput(f"hard_cut must lie in [0, 1), not {hard_cut}")
