"""Masks of a whole model from lazily computed scores: who competes with whom is one argument, `within`.

all: one cut over all matrices, each keeping a minimum. group: a cut for each matrix. output: a cut for each output.
"n:m": N stay of every M consecutive inputs. One matrix of scores is held at a time, whatever `within` is.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping

import numpy as np

from prunus.allocate.minimum_threshold import cut, layer_floors
from prunus.core.budget import Budget
from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.core.score import GroupScore, Score, check_finite
from prunus.select.cumulative import cumulative
from prunus.select.nm import nm_mask
from prunus.select.per_group import as_lines, per_group
from prunus.select.per_output import per_output

SPREAD = 100.0
WITHIN = ("all", "group", "output", "cumulative")


def keep_masks(
    score: Score,
    budget: Budget,
    *,
    within: str = "group",
    minimum: float = 0.05,
    taps: Mapping[str, int] | None = None,
    tail: str = "refuse",
    counts: Mapping[str, int] | None = None,
) -> Iterator[tuple[str, np.ndarray]]:
    """The mask of every matrix, one after the other.

    Args:
        score: unit weights; values `[outputs, inputs * taps]` for each group, usually `LazyValues`.
        budget: "50% weights", "sparsity 90%", "2:4".
        within: all, group, output, cumulative, or "n:m"; a budget "n:m" sets it.
        minimum: within="all" only: least weights of a matrix, in percent of all weights.
        taps: within="n:m" only: kernel taps (kh * kw) of the groups that are convolutions.
        tail: within="n:m" only: refuse inputs that fill no group, or leave them dense.
        counts: within="group" only: how many weights of each matrix stay, decided before; the budget is not read then.

    Yields:
        group name, bool mask of the shape of its values (True stays).

    Raises:
        BadInput: unknown `within`, unusable shapes. NonFinite: NaN scores.
        BudgetUnreachable: nothing would stay, or the minimum is above the budget.
    """
    pattern = budget.nm or pattern_of(within)
    if counts is not None and (pattern is not None or within != "group"):
        raise BadInput(f"counts of each matrix are chosen within='group', not {within!r}")
    if pattern is not None:
        for name in score.values:
            group = _group(score, name)
            yield name, nm_mask(as_lines(group), *pattern, taps=(taps or {}).get(name, 1), tail=tail, name=name)
        return
    if within not in WITHIN:
        raise BadInput(f"within is one of {', '.join(WITHIN)} or N:M, not {within!r}")
    counts = _pooled(score, budget, minimum) if within == "all" else counts
    budget = budget if budget.term.relative or counts else _as_share(score, budget)
    choose = {"output": per_output, "cumulative": cumulative}.get(within, per_group)
    for name in score.values:
        group = _group(score, name)
        shape = np.asarray(group.values).shape
        count = counts[name] if counts is not None else _count(budget, within, shape, name)
        mask = np.zeros(group.values.size, dtype=bool)
        if count:
            mask[choose(group, count)] = True
        yield name, mask.reshape(shape)


def _group(score: Score, name: str) -> GroupScore:
    """One matrix without ids: they are its flat positions, and eight bytes each."""
    return GroupScore(score.values[name], np.empty(0, dtype=np.int64), score.sense, name=name)


def pattern_of(within: str) -> tuple[int, int] | None:
    """(n, m) of "n:m", or None."""
    match = re.fullmatch(r"(\d+):(\d+)", within)
    return (int(match[1]), int(match[2])) if match else None


def _pooled(score: Score, budget: Budget, minimum: float) -> dict[str, int]:
    """How many weights of each matrix one cut over all of them leaves."""
    sizes: dict[str, int] = {}
    typical: dict[str, float] = {}
    for name, values in score.values.items():
        sizes[name], typical[name] = int(values.size), float(np.abs(values).mean(dtype=np.float64))
    _warn_of_scales(typical)
    size, each = sum(sizes.values()), list(sizes.values())
    floors = np.maximum(layer_floors(each, minimum), np.minimum(each, budget.floor))
    return dict(zip(sizes, cut(lambda: _checked(score), size - budget.drop_count(size), floors).tolist()))


def _warn_of_scales(typical: dict[str, float]) -> None:
    """A global cut of unlike scales empties whole matrices for no better reason than their scale."""
    alive = {name: value for name, value in typical.items() if value > 0}
    if not alive:
        return
    low, high = min(alive, key=alive.__getitem__), max(alive, key=alive.__getitem__)
    if alive[high] > SPREAD * alive[low]:
        times = f"{alive[high] / alive[low]:.3g} times those of {low}"
        advice = "compare scale-free scores (lamp), or cut within='group' or 'output'"
        warnings.warn(f"scores of {high} are {times}: one cut over all will spare the first; {advice}", stacklevel=4)


def _as_share(score: Score, budget: Budget) -> Budget:
    """A number of weights of the whole model as a share of every matrix."""
    size = sum(int(np.asarray(values).size) for values in score.values.values())
    return Budget.parse(f"{100 * budget.count(size) / size:.12g}% weights", floor=budget.floor)


def _count(budget: Budget, within: str, shape: tuple[int, ...], name: str) -> int:
    """How many weights of one matrix stay; papers round down what goes, in a matrix or in each output."""
    lines = shape[0] if within == "output" and len(shape) > 1 else 1
    size = int(np.prod(shape)) // lines
    kept = size - budget.drop_count(size)
    if kept < 1:
        message = f"{budget}: none of {size} weights that compete in {name} would stay"
        raise BudgetUnreachable(message, nearest=f"1 of {size}")
    return lines * kept


def _checked(score: Score) -> Iterator[np.ndarray]:
    for name, values in score.values.items():
        check_finite(name, values, np.empty(0))
        yield values if score.sense != "easy" else -values
