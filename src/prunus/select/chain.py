"""Selectors in turn: each narrows what the next one sees, and the last one meets the count.

How far a selector narrows, unless it is the last: to the rows that it would keep without a count, where it has such a
rule (`stays` in its module: semdedup with eps); to a share of what it is given; else every selector of the chain keeps
the same share, so that 9 % of the rows are 30 % of 30 %.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.core.registry import Method
from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.select.by_label import check_count, part

Positions = NDArray[np.int64]
Loaded = Sequence[tuple[Method, Callable[..., Any]]]


def in_turn(stages: Loaded, score: GroupScore, count: int, *, rng: Rng, **options: Any) -> Positions:
    """Positions that the last selector keeps of those that all before it keep.

    Args:
        stages: selectors and their functions, first to last.
        score: what all of them see, each over the units that are left.
        count: units kept.
        rng: its seed; every selector draws as it does alone.
        options: of the selectors, plain or with the selector's name before them; and `NAME_share`.

    Returns:
        int64 `[count]` positions, in the order of the last selector.

    Raises:
        BudgetUnreachable: a selector leaves fewer than `count`.
    """
    check_count(score, count)
    left = np.arange(score.ids.size)
    if not count:
        return left[:0]
    for number, (stage, function) in enumerate(stages):
        own = stage_options(stages, stage, options)
        if "rng" in inspect.signature(function).parameters:
            own["rng"] = Rng(rng.seed, stage.id)
        piece = score if left.size == score.ids.size else part(score, left)
        after = len(stages) - 1 - number
        if after:
            share = options.get(f"{stage.name}_share")
            left = left[np.sort(_narrowed(stage, function, piece, count, after, share, own))]
        else:
            left = left[np.asarray(function(piece, count, **own), dtype=np.int64)]
    return left


def stage_options(stages: Loaded, stage: Method, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that one selector of a chain is given.

    Raises:
        BadInput: a plain name that means different things to two of the selectors.
    """
    found: dict[str, Any] = {}
    for name in stage.keywords:
        if name in options:
            kinds = {one.name: o.type for one, _ in stages for o in one.options if o.name == name}
            if len(set(kinds.values())) > 1:
                choices = " or ".join(f"{other}_{name}" for other in kinds)
                raise BadInput(f"{name} means different things to {' and '.join(kinds)}: write {choices}")
            found[name] = options[name]
        if f"{stage.name}_{name}" in options:
            found[name] = options[f"{stage.name}_{name}"]
    return found


def _narrowed(
    stage: Method,
    function: Callable[..., Any],
    piece: GroupScore,
    count: int,
    after: int,
    share: float | None,
    own: dict[str, Any],
) -> Positions:
    """What a selector that is not the last leaves to the next."""
    n = piece.ids.size
    rule = getattr(importlib.import_module(stage.module), "stays", None)
    kept = rule(piece, **own) if rule is not None and share is None else None
    if share is not None and not 0 < share <= 1:
        raise BadInput(f"{stage.name}_share is a share above 0 and at most 1, not {share}")
    few = round(n * (share if share is not None else (count / n) ** (1 / (after + 1)))) if kept is None else kept.size
    if few < count and (share is not None or kept is not None):
        raise BudgetUnreachable(
            f"{stage.name} leaves {few} of {n} units, so {count} can't be kept", nearest=f"{few} rows"
        )
    return kept if kept is not None else np.asarray(function(piece, max(few, count), **own), dtype=np.int64)
