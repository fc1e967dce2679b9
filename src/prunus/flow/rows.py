"""Rows: from recorded signals to a Score, and from a Score to a Plan of the rows that stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from torch import Tensor

from prunus.core import registry
from prunus.core.budget import Budget
from prunus.core.chain import find_selector
from prunus.core.errors import BadInput, BudgetUnreachable, FingerprintMismatch, IdMismatch
from prunus.core.fingerprint import fingerprint_array
from prunus.core.memory import parse_bytes
from prunus.core.plan import Kept, Plan
from prunus.core.registry import Method
from prunus.core.rng import Rng
from prunus.core.score import GroupScore, Score
from prunus.flow.calls import with_rng
from prunus.flow.labelled import unlabelled, without_labels
from prunus.flow.limits import within_ram
from prunus.flow.loss_weights import weighed
from prunus.flow.split import Split
from prunus.prunables.dataset import Dataset, require_role
from prunus.rows.runs import mean
from prunus.select.by_label import part
from prunus.signals.rowset import Signals
from prunus.signals.target import opened
from prunus.signals.usable import WHAT, unusable

GROUP = "rows"
CHUNK = 65_536


def score_rows(
    data: Dataset,
    method: str,
    *,
    signals: Signals | Sequence[Signals] | None = None,
    seed: int = 0,
    quarantine: bool = False,
    max_ram: int | str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Score:
    """A Score for every row of `data`.

    Args:
        data: the rows; must not have the role test.
        method: a criterion over rows.
        signals: what was recorded for these rows, in any order; several runs are scored each and averaged; None for
            criteria that need none (random).
        seed: for criteria that draw.
        quarantine: rows whose signals are not finite, or whose embedding is zero, get the median score and are told in
            the provenance; no plan keeps them. Otherwise they are refused.
        max_ram: bytes (or "2GB") that scoring may take beyond the signals.
        options: the criterion's own.

    Raises:
        SplitError: `data` is the test set.
        IdMismatch: rows without signals.
        BadInput: a signal the criterion needs was not recorded.
        ResourceError: the criterion needs more than `max_ram`.
    """
    require_role(data, {"fit", "val", "train"}, what=f"scoring rows with {method}")
    found, options = registry.find(method, unit="rows", kind="criterion"), _with_target(options)
    found.check_options(options)
    runs = [signals] if signals is None or isinstance(signals, Signals) else list(signals)
    rng = Rng(seed, found.id)
    aligned = [_aligned(data, one, found) for one in runs or [None]]
    if max_ram is not None:
        within_ram(found, aligned[0], len(data.ids), 0, options, parse_bytes(max_ram))
    names = {*found.needs, "embedding", "probs"} if quarantine else set[str]()
    out = np.any([unusable(one, names) for one in aligned], axis=0)
    scores = [_one(data, one, given, found, options, rng, out) for one, given in zip(aligned, runs or [None])]
    return scores[0] if len(scores) == 1 else mean(scores)


def _one(
    data: Dataset,
    aligned: Signals,
    given: Signals | None,
    found: Method,
    options: dict[str, Any],
    rng: Rng,
    out: np.ndarray,
) -> Score:
    """The score of one run; rows that are `out` get the median of the others."""
    values = _values(found, aligned.take(~out) if out.any() else aligned, rng, options)
    told = {name: _told(value) for name, value in options.items()}
    made: dict[str, Any] = {"method": found.id, "options": told, "seed": rng.seed, "data": data.name}
    if given is not None:
        made["signals"] = dict(given.provenance)
    if out.any():
        every = np.full(out.size, np.median(values), dtype=values.dtype)
        every[~out] = values
        values, made["quarantined"] = every, data.ids[out].tolist()
    sense = found.facts.get("sense", "keep")
    return Score("rows", {GROUP: values}, sense, {GROUP: data.ids}, data.fingerprint(), made, aligned).check()


def _aligned(data: Dataset, signals: Signals | None, method: Method) -> Signals:
    """The signals of exactly these rows in this order, with labels from the data where they were not recorded."""
    if signals is None:
        labels = data.labels
        signals = Signals.nothing(data.ids) if labels is None else Signals(ids=data.ids, labels=labels)
    elif not np.array_equal(signals.ids, data.ids):
        signals = signals.align(data.ids)
    if "labels" not in signals.names and data.labels is not None:
        signals = signals.merge(Signals(ids=data.ids, labels=data.labels))
    if missing := missing_signals(method, signals):
        if "labels" in missing:
            raise BadInput(without_labels(method, data.name))
        instead = "".join(f" (or {name})" for name in method.facts.get("instead", ()))
        raise BadInput(
            f"{method.id} needs {', '.join(missing)}{instead}, and the signals hold {', '.join(signals.names) or 'none'}: "
            f"record them (prunus signals --need {','.join(method.needs)}) or pass them to px.Signals"
        )
    return signals


def missing_signals(method: Method, signals: Signals) -> list[str]:
    """What the method needs and the signals lack; a signal that stands in for the others (`instead=`) leaves labels only."""
    needs = [name for name in method.needs if name not in signals.names]
    stands_in = any(name in signals.names for name in method.facts.get("instead", ()))
    return [name for name in needs if name == "labels"] if stands_in else needs


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
    select: str | Sequence[str] | None = None,
    allocate: str | Split | None = None,
    seed: int = 0,
    data: Dataset | None = None,
    val: Signals | None = None,
    max_ram: int | str | None = None,
    quarantine: bool = False,
    weights: bool = True,
    options: Mapping[str, Any] | None = None,
) -> Plan:
    """Which rows stay.

    Args:
        score: over rows.
        budget: `30% rows`, `5000 rows`; its pinned ids stay, its banned ids go.
        select: a selector, or several in turn (`["semdedup", "ccs"]` or `"semdedup,ccs"`); default ccs for hard / easy
            scores, top for keep scores.
        allocate: an allocator that splits the budget over the classes first (the budget's floor holds for each), or a Split
            that says over what; without one the selector sees all rows, and its own `within="class"` keeps the same
            share of every class.
        seed: for selectors that draw.
        data: checked to be the rows the score was made for.
        val: signals of validation rows, for selectors and allocators that read them (glister, by_recall).
        max_ram: bytes (or "2GB") that selecting may take beyond the signals; does not change the plan.
        quarantine: rows whose signals the selector can't use go, with that reason; otherwise they are refused by id.
        weights: give the plan the loss weights of a selector that has some (craig, grad_match).
        options: the selector's own.

    Raises:
        ResourceError: the selector needs more than `max_ram`.
        BudgetUnreachable: pinned and banned ids, or floors, do not leave the count asked for.
    """
    asked = Budget.parse(budget)
    if asked.unit != "rows":
        raise BadInput(f"a score over rows takes a budget in rows, not {asked.short()!r}")
    require_role(data, {"fit", "val", "train"}, what="selecting rows")
    same_rows(score, data)
    method, options = _selector(select or default_selector(score)), _with_target(options)
    options |= {"val": val} if val is not None and "val" in method.keywords else {}
    method.check_options(options)
    group = _whole(score)
    _check_needs(method, group)
    out = _quarantined(score, group, method, quarantine)
    free, pinned = _free(group, asked, out)
    count = asked.count(group.ids.size)
    if not pinned.size <= count <= pinned.size + free.size:
        raise BudgetUnreachable(
            f"{asked} is {count} rows, with {pinned.size} pinned and {group.ids.size - pinned.size - free.size} banned"
            + (f" or quarantined ({int(out.sum())})" if out.any() else ""),
            nearest=f"{min(max(count, pinned.size), pinned.size + free.size)} rows",
        )
    parts, counts, notes = [free], [count - pinned.size], {}
    split = Split(allocate, val=val, seed=seed) if isinstance(allocate, str) else allocate
    if split is not None:
        parts, counts, notes = split.parts(group, free, count - pinned.size, asked.floor)
    told, rng = dict(options), Rng(seed, method.id)
    if max_ram is not None:
        largest = max(part.size for part in parts)
        options = within_ram(method, group.signals, largest, max(counts), options, parse_bytes(max_ram))
    chosen = [_select(method, group, part, number, rng, options) for part, number in zip(parts, counts) if number]
    kept = group.ids[np.concatenate([pinned, *chosen]).astype(np.int64)]
    made = {"score": dict(score.provenance), "method": score.provenance.get("method", ""), "select": method.id}
    made |= {"options": {name: _told(value) for name, value in told.items()}, "seed": seed}
    made |= split.told() if split is not None else {}
    made |= {"notes": notes} if notes else {}
    plan = _plan(score, group, asked, kept, made, out)
    return weighed(plan, method, group, np.sort(np.concatenate([free, pinned])), options) if weights else plan


def _selector(name: str | Sequence[str]) -> Method:
    method = find_selector(name)
    if method.unit not in ("", "rows"):
        raise BadInput(f"{method.id} selects {method.unit}, not rows: choose top, ccs or another selector of any unit")
    return method


def _check_needs(method: Method, group: GroupScore) -> None:
    """Refuse a selector whose signals did not come with the score, before anything is computed."""
    if "gradient" in getattr(group.signals, "names", ()):
        return  # stands in for the signals that gradients are made of
    if missing := [name for name in method.needs if name not in getattr(group.signals, "names", ())]:
        without = f"; without labels there are {unlabelled('selector')}" if "labels" in missing else ""
        raise BadInput(
            f"{method.id} needs {', '.join(missing)}, which did not come with the score: record it "
            f"(prunus signals --need {','.join(missing)}) and give these signals when scoring{without}"
        )


def _with_target(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options, the target read where it is a path: provenance tells what it holds, not where it lies."""
    found = dict(options or {})
    return {**found, "target": opened(found["target"])} if found.get("target") is not None else found


def _told(value: Any) -> Any:
    """An option as provenance: arrays, scores and signals are told by a hash of their numbers."""
    if isinstance(value, Score):
        return {"score": dict(value.provenance)}
    if isinstance(value, GroupScore):
        order = np.argsort(value.ids, kind="stable")
        numbers = [fingerprint_array(np.asarray(part), order) for part in (value.ids, value.values)]
        return {"score": value.name, "sense": value.sense, "content": "-".join(numbers)}
    if isinstance(value, Signals):
        order = np.argsort(value.ids, kind="stable")
        return {name: fingerprint_array(np.asarray(value.field(name)), order) for name in value.names}
    if isinstance(value, list | tuple):
        return [_told(one) for one in cast("Sequence[Any]", value)]
    return fingerprint_array(np.asarray(value)) if isinstance(value, np.ndarray | Tensor) else value


def default_selector(score: Score) -> str:
    """ccs for scores of hardness, top for scores that say what to keep."""
    return "top" if score.sense == "keep" else "ccs"


def _plan(
    score: Score, group: GroupScore, asked: Budget, kept: np.ndarray, made: dict[str, Any], out: np.ndarray
) -> Plan:
    keep = Kept.of_ids(kept, group.ids.size, group.ids)
    dropped = keep.dropped()
    banned = np.isin(dropped, np.asarray(asked.ban, dtype=dropped.dtype)) if asked.ban else np.zeros(dropped.size)
    names = (f"not selected by {made['select']} from {made['method'] or 'the score'}", "banned")
    code = banned.astype(np.uint8)
    if out.any():
        names, code = (*names, WHAT), np.where(np.isin(dropped, group.ids[out]), np.uint8(2), code)
    reasons = {GROUP: code}
    dense, planned = {"rows": float(group.ids.size)}, {"rows": float(keep.count)}
    return Plan("rows", {GROUP: keep}, asked, planned, dense, (), reasons, names, made, score.fingerprint)


def _whole(score: Score) -> GroupScore:
    if list(score.values) != [GROUP]:
        raise BadInput(f"a score over rows has one group, {GROUP!r}; this one has {sorted(score.values)}")
    group = score.group(GROUP)
    if group.ids.size == 0:
        raise BadInput("there are no rows to select from")
    return group


def same_rows(score: Score, data: Dataset | None) -> None:
    """Refuse rows that the score was not made for, naming both."""
    if data is None:
        return
    ids, made_for = score.group(GROUP).ids, str(score.provenance.get("data", "other rows"))
    if not np.array_equal(np.sort(ids), np.sort(data.ids)):
        only = np.setdiff1d(data.ids, ids)[:5].tolist() or np.setdiff1d(ids, data.ids)[:5].tolist()
        raise IdMismatch(
            f"the score was made for {made_for} ({ids.size} rows), not for {data.name} ({len(data)} rows): "
            f"ids {only} are in one of them only"
        )
    if score.fingerprint and score.fingerprint != data.fingerprint():
        raise FingerprintMismatch("score", f"{made_for} as it was then", f"{data.name} as it is now")


def _quarantined(score: Score, group: GroupScore, method: Method, quarantine: bool) -> np.ndarray:
    """Rows that no selector sees, bool `[n]`: those the score was made without, and where asked those it can't use."""
    known = score.provenance.get("quarantined", ())
    out = (
        np.isin(group.ids, np.asarray(known, dtype=group.ids.dtype)) if known else np.zeros(group.ids.size, dtype=bool)
    )
    return out | unusable(group.signals, method.needs) if quarantine and isinstance(group.signals, Signals) else out


def _free(group: GroupScore, asked: Budget, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions that may be chosen, and those that are pinned; `out` [n] may be neither."""
    pins = np.asarray(asked.pin, dtype=group.ids.dtype) if asked.pin else group.ids[:0]
    bans = np.asarray(asked.ban, dtype=group.ids.dtype) if asked.ban else group.ids[:0]
    for what, ids in (("pinned", pins), ("banned", bans)):
        if (unknown := np.setdiff1d(ids, group.ids)).size:
            raise IdMismatch(f"{unknown.size} {what} ids are not in the data: {unknown[:5].tolist()}")
    pinned = np.isin(group.ids, pins)
    if (pinned & out).any():
        raise BadInput(f"ids {group.ids[pinned & out][:5].tolist()} are pinned, but their signals can't be used")
    return np.flatnonzero(~pinned & ~out & ~np.isin(group.ids, bans)), np.flatnonzero(pinned)


def _select(
    method: Method, group: GroupScore, positions: np.ndarray, count: int, rng: Rng, options: dict[str, Any]
) -> np.ndarray:
    if count == positions.size:
        return positions
    within = group if positions.size == group.ids.size else part(group, positions)
    function = method.load()
    return positions[np.asarray(function(within, int(count), **with_rng(function, options, rng)), dtype=np.int64)]
