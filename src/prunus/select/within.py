"""Masks of a whole model from lazily computed scores: who competes with whom is one argument, `within`.

all: one cut over all matrices, each keeping a minimum. group: a cut for each matrix. output: a cut for each output. "n:m": N stay of
every M consecutive inputs. One matrix of scores is held at a time, whatever `within` is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np

from prunus.allocate.minimum_threshold import cut, layer_floors
from prunus.core.budget import Budget
from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.core.score import Score, check_finite
from prunus.select.cumulative import cumulative
from prunus.select.nm import nm_mask
from prunus.select.per_group import as_lines, per_group
from prunus.select.per_output import per_output

WITHIN = ("all", "group", "output", "cumulative")


def keep_masks(
    score: Score,
    budget: Budget,
    *,
    within: str = "group",
    minimum: float = 0.05,
    taps: Mapping[str, int] | None = None,
    tail: str = "refuse",
) -> Iterator[tuple[str, np.ndarray]]:
    """The mask of every matrix, one after the other.

    Args:
        score: unit weights; values `[outputs, inputs * taps]` for each group, usually `LazyValues`.
        budget: "50% weights", "sparsity 90%", "2:4".
        within: all, group, output, cumulative, or "n:m"; a budget "n:m" sets it.
        minimum: within="all" only: least weights of a matrix, in percent of all weights.
        taps: within="n:m" only: kernel taps (kh * kw) of the groups that are convolutions.
        tail: within="n:m" only: refuse inputs that fill no group, or leave them dense.

    Yields:
        group name, bool mask of the shape of its values (True stays).

    Raises:
        BadInput: unknown `within`, unusable shapes. NonFinite: NaN scores.
        BudgetUnreachable: nothing would stay, or the minimum is above the budget.
    """
    pattern = budget.nm or _pattern(within)
    if pattern is not None:
        for name in score.values:
            group = score.group(name)
            yield name, nm_mask(as_lines(group), *pattern, taps=(taps or {}).get(name, 1), tail=tail, name=name)
        return
    if within not in WITHIN:
        raise BadInput(f"within is one of {', '.join(WITHIN)} or N:M, not {within!r}")
    counts = _counts(score, budget, within, minimum)
    choose = {"output": per_output, "cumulative": cumulative}.get(within, per_group)
    for name in score.values:
        group = score.group(name)
        mask = np.zeros(group.values.size, dtype=bool)
        if counts[name]:
            mask[choose(group, counts[name])] = True
        yield name, mask.reshape(group.values.shape)


def _pattern(within: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"(\d+):(\d+)", within)
    return (int(match[1]), int(match[2])) if match else None


def _counts(score: Score, budget: Budget, within: str, minimum: float) -> dict[str, int]:
    """How many weights of each group stay."""
    shapes = {name: np.asarray(values).shape for name, values in score.values.items()}
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    size = sum(sizes.values())
    if within == "all":
        floors = np.maximum(layer_floors(list(sizes.values()), minimum), np.minimum(list(sizes.values()), budget.floor))
        total = size - budget.drop_count(size)
        return dict(zip(sizes, cut(lambda: _checked(score), total, floors).tolist()))
    if not budget.term.relative:
        budget = Budget.parse(f"{100 * budget.count(size) / size:.12g}% weights", floor=budget.floor)
    if within == "output":
        return {name: _outputs(shape) * _stay(budget, sizes[name] // _outputs(shape), name) for name, shape in shapes.items()}
    return {name: _stay(budget, n, name) for name, n in sizes.items()}


def _outputs(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) > 1 else 1


def _stay(budget: Budget, size: int, name: str) -> int:
    kept = size - budget.drop_count(size)
    if kept < 1:
        raise BudgetUnreachable(f"{budget}: none of {size} weights that compete in {name} would stay", nearest=f"1 of {size}")
    return kept


def _checked(score: Score) -> Iterator[np.ndarray]:
    for name, values in score.values.items():
        check_finite(name, values, np.empty(0))
        yield values if score.sense != "easy" else -values
