"""`px.advice`: the adviser in one call."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from prunus.advise.advice import Advice, Equal, advise
from prunus.advise.asked import Asked
from prunus.advise.probe import look
from prunus.core.budget import Budget
from prunus.prunables.dataset import Dataset
from prunus.signals.rowset import Signals


def advice(
    data: Any,
    budget: str | Budget,
    *,
    method: str = "",
    select: str = "",
    options: Mapping[str, Any] | None = None,
    signals: Signals | None = None,
    have: Collection[str] = (),
    noise: float | None = None,
    equal: Equal = "epochs",
    trainings: float = 1,
) -> Advice:
    """Which methods over rows suit these, by what this repository measured: print it, or read its `shortlist` and `warnings`.

    Args:
        data: rows of role fit: a Dataset, or what one wraps.
        budget: what stays, in rows.
        method, select, options: a method you have in mind, its selector and the selector's options.
        signals: at hand for these rows; have: names of further ones.
        noise: share of wrong labels in 0..1; None = estimated.
        equal: what training on what is kept gets as much of as training on all rows.
        trainings: planned on what is kept.

    Raises:
        BadInput: a budget that is not in rows, no tables for `equal`. UnknownName: no such method. SplitError: the test set.
    """
    rows = data if isinstance(data, Dataset) else Dataset(data)
    situation = look(rows, budget, signals=signals, have=have, noise=noise)
    asked = Asked(method, select, tuple((options or {}).items())) if method else None
    return advise(situation, asked=asked, equal=equal, trainings=trainings)
