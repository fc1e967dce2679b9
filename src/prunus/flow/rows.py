"""Rows: from recorded signals to a Score, and from a Score to a Plan of the rows that stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from prunus.allocate.request import Request
from prunus.core import registry
from prunus.core.budget import Budget
from prunus.core.errors import BadInput, BudgetUnreachable, FingerprintMismatch, IdMismatch, UnknownName
from prunus.core.plan import Kept, Plan
from prunus.core.registry import Method
from prunus.core.rng import Rng
from prunus.core.score import GroupScore, Score
from prunus.flow.calls import with_rng
from prunus.prunables.dataset import Dataset, require_role
from prunus.signals.rowset import Signals

GROUP = "rows"
CHUNK = 65_536


def score_rows(
    data: Dataset, method: str, *, signals: Signals | None = None, seed: int = 0, options: Mapping[str, Any] | None = None
) -> Score:
    """A Score for every row of `data`.

    Args:
        data: the rows; must not have the role test.
        method: a criterion over rows.
        signals: what was recorded for these rows, in any order; None for criteria that need none (random).
        seed: for criteria that draw.
        options: the criterion's own.

    Raises:
        SplitError: `data` is the test set.
        IdMismatch: rows without signals.
        BadInput: a signal the criterion needs was not recorded.
    """
    require_role(data, {"fit", "val", "train"}, what=f"scoring rows with {method}")
    found, options = registry.find(method, unit="rows", kind="criterion"), dict(options or {})
    found.check_options(options)
    aligned = _aligned(data, signals, found)
    values = _values(found, aligned, Rng(seed, found.id), options)
    made_from = {} if signals is None else {"signals": signals.provenance}
    provenance = {"method": found.id, "options": options, "seed": seed, **made_from}
    sense = found.facts.get("sense", "keep")
    score = Score("rows", {GROUP: values}, sense, {GROUP: data.ids}, data.fingerprint(), provenance, aligned)
    return score.check()


def _aligned(data: Dataset, signals: Signals | None, method: Method) -> Signals:
    """The signals of exactly these rows in this order, with labels from the data where they were not recorded."""
    if signals is None:
        arrays = {} if data.labels is None else {"labels": data.labels}
        signals = Signals(ids=data.ids, **arrays)
    elif not np.array_equal(signals.ids, data.ids):
        signals = signals.align(data.ids)
    if "labels" not in signals.names and data.labels is not None:
        signals = signals.merge(Signals(ids=data.ids, labels=data.labels))
    if missing := [name for name in method.needs if name not in signals.names]:
        raise BadInput(
            f"{method.id} needs {', '.join(missing)}, and the signals hold {', '.join(signals.names) or 'none'}: "
            f"record them (prunus signals --need {','.join(method.needs)}) or pass them to px.Signals"
        )
    return signals


def _values(method: Method, signals: Signals, rng: Rng, options: dict[str, Any]) -> np.ndarray:
    function = method.load()
    options = with_rng(function, options, rng)
    parts = [signals] if method.facts.get("whole") else signals.chunks(CHUNK)
    values = np.concatenate([np.asarray(function(part, **options)).reshape(-1) for part in parts])
    if values.shape != (len(signals.ids),):
        raise BadInput(f"{method.id} gave {values.shape} values for {len(signals.ids)} rows")
    return values if values.dtype == np.float64 else values.astype(np.float32)


def plan_rows(
    score: Score,
    budget: str | Budget,
    *,
    select: str | None = None,
    within: str = "all",
    allocate: str = "proportional",
    seed: int = 0,
    data: Dataset | None = None,
    options: Mapping[str, Any] | None = None,
) -> Plan:
    """Which rows stay.

    Args:
        score: over rows.
        budget: `30% rows`, `5000 rows`; its pinned ids stay, its banned ids go, its floor holds for each class.
        select: a selector; default ccs for hard / easy scores, top for keep scores.
        within: `all`, or `class`: the budget is split over the classes first.
        allocate: the allocator that splits it.
        seed: for selectors that draw.
        data: checked to be the rows the score was made for.
        options: the selector's own.
    """
    asked = Budget.parse(budget)
    if asked.unit != "rows":
        raise BadInput(f"a score over rows takes a budget in rows, not {asked.short()!r}")
    _same_rows(score, data)
    default = "top" if score.sense == "keep" else "ccs"
    method, options = registry.find(select or default, kind="selector"), dict(options or {})
    method.check_options(options)
    group = _whole(score)
    free, pinned = _free(group, asked)
    count = asked.count(group.ids.size)
    if not pinned.size <= count <= pinned.size + free.size:
        raise BudgetUnreachable(
            f"{asked} is {count} rows, with {pinned.size} pinned and {group.ids.size - pinned.size - free.size} banned",
            nearest=f"{min(max(count, pinned.size), pinned.size + free.size)} rows",
        )
    counts, parts = _split(group, free, count - pinned.size, within, allocate, asked.floor)
    rng = Rng(seed, method.id)
    chosen = [_select(method, group, part, number, rng, options) for part, number in zip(parts, counts) if number]
    kept = group.ids[np.concatenate([pinned, *chosen]).astype(np.int64)]
    rule = {"select": method.id, "within": within, "options": options, "seed": seed}
    if within != "all":
        rule["allocate"] = allocate
    return _plan(score, group, asked, kept, {"score": dict(score.provenance), **rule}, method.id)


def _plan(
    score: Score, group: GroupScore, asked: Budget, kept: np.ndarray, provenance: dict[str, Any], selector: str
) -> Plan:
    keep = Kept.of_ids(kept, group.ids.size, group.ids)
    dropped = keep.dropped()
    names = (f"not selected by {selector}", "banned")
    codes = np.isin(dropped, np.asarray(asked.ban, dtype=dropped.dtype)).astype(np.uint8) if asked.ban else None
    reasons = {GROUP: np.zeros(dropped.size, dtype=np.uint8) if codes is None else codes}
    size = float(group.ids.size)
    dense, planned = {"rows": size}, {"rows": float(keep.count)}
    return Plan("rows", {GROUP: keep}, asked, planned, dense, (), reasons, names, provenance, score.fingerprint)


def _whole(score: Score) -> GroupScore:
    if list(score.values) != [GROUP]:
        raise BadInput(f"a score over rows has one group, {GROUP!r}; this one has {sorted(score.values)}")
    group = score.group(GROUP)
    if group.ids.size == 0:
        raise BadInput("there are no rows to select from")
    return group


def _same_rows(score: Score, data: Dataset | None) -> None:
    if data is None:
        return
    if not np.array_equal(np.sort(score.group(GROUP).ids), np.sort(data.ids)):
        only = np.setdiff1d(data.ids, score.group(GROUP).ids)[:5].tolist()
        raise IdMismatch(f"the score was made for other rows: {len(data)} rows here, ids {only} have no score")
    if score.fingerprint and score.fingerprint != data.fingerprint():
        raise FingerprintMismatch("score", score.fingerprint, f"{data.name} {data.fingerprint()}")


def _free(group: GroupScore, asked: Budget) -> tuple[np.ndarray, np.ndarray]:
    """Positions that may be chosen, and those that are pinned."""
    pins = np.asarray(asked.pin, dtype=group.ids.dtype) if asked.pin else group.ids[:0]
    bans = np.asarray(asked.ban, dtype=group.ids.dtype) if asked.ban else group.ids[:0]
    for what, ids in (("pinned", pins), ("banned", bans)):
        if (unknown := np.setdiff1d(ids, group.ids)).size:
            raise IdMismatch(f"{unknown.size} {what} ids are not in the data: {unknown[:5].tolist()}")
    pinned = np.isin(group.ids, pins)
    return np.flatnonzero(~pinned & ~np.isin(group.ids, bans)), np.flatnonzero(pinned)


def _split(
    group: GroupScore, free: np.ndarray, count: int, within: str, allocate: str, floor: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """How many rows to take from which positions."""
    if within == "all":
        return np.array([count]), [free]
    if within != "class":
        raise UnknownName("scope of a row budget", within, ("all", "class"))
    labels = getattr(group.signals, "labels", None)
    if labels is None:
        raise BadInput("within='class' needs labels, and these rows have none: use within='all'")
    classes = np.asarray(labels)[free]
    names, inverse = np.unique(classes, return_inverse=True)
    parts = [free[inverse == index] for index in range(names.size)]
    allocator = registry.find(allocate, kind="allocator").load()
    scores = [np.asarray(group.values)[part] for part in parts]
    request = Request.of(
        [part.size for part in parts],
        count,
        names=[f"{name!s:>20}" for name in names.tolist()],
        floors=min(floor, count // max(names.size, 1)),
        scores=scores,
        sense=group.sense,
    )
    return allocator(request), parts


def _select(
    method: Method, group: GroupScore, part: np.ndarray, count: int, rng: Rng, options: dict[str, Any]
) -> np.ndarray:
    if count == part.size:
        return part
    signals = None if group.signals is None else group.signals.take(part)
    within = GroupScore(np.asarray(group.values)[part], group.ids[part], group.sense, signals, group.name)
    function = method.load()
    return part[np.asarray(function(within, int(count), **with_rng(function, options, rng)), dtype=np.int64)]
