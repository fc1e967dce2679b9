"""Rows as their owner holds them: what `plan.apply(anything)` is given comes back as the same kind of object."""

from __future__ import annotations

from typing import Any

from prunus.prunables.dataset import Dataset


def bare(data: Any) -> Dataset:
    """What `plan.apply(anything)` wraps rows with: the result is handed back as the kind of object that was given."""
    if isinstance(data, Dataset):
        return data
    wrapped = Dataset(data)
    wrapped.hand_back = True
    return wrapped
