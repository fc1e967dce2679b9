"""Scores of several runs: their mean, and how far their rankings agree."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.stats import rankdata

from prunus.core.errors import BadInput, IdMismatch
from prunus.core.score import Score


def mean(scores: Sequence[Score]) -> Score:
    """The plain mean of scores (not of ranks) over runs of the same method.

    Args:
        scores: one for each run; same groups, ids, sense and unit, ids in any order.

    Returns:
        A Score in the order of the first, with `runs` in its provenance.
    """
    if not scores:
        raise BadInput("the mean of no scores is not defined: give one score for each run")
    first = scores[0]
    for other in scores[1:]:
        if (other.unit, other.sense, other.fingerprint) != (first.unit, first.sense, first.fingerprint):
            raise BadInput(
                f"runs differ in unit, sense or prunable: {first.unit} {first.sense} and {other.unit} {other.sense}"
            )
    values = {name: _stack(scores, name).mean(0).astype(first.values[name].dtype) for name in first.values}
    provenance = {**first.provenance, "runs": [dict(score.provenance) for score in scores]}
    return Score(first.unit, values, first.sense, first.ids, first.fingerprint, provenance, first.signals)


def stability(scores: Sequence[Score]) -> float:
    """Mean Spearman correlation between the runs, over all groups together: 1 = the same ranking."""
    if len(scores) < 2:
        raise BadInput(f"rank stability compares two runs or more, not {len(scores)}")
    stacked = np.concatenate([_stack(scores, name) for name in scores[0].values], axis=1)
    correlations = np.corrcoef(rankdata(stacked, axis=1))  # Spearman is Pearson of the (mean) ranks
    return float(np.mean([correlations[i, j] for i, j in combinations(range(len(scores)), 2)]))


def _stack(scores: Sequence[Score], name: str) -> np.ndarray:
    """float64 `[runs, n]` in the order of the first run's ids."""
    wanted = scores[0].group(name).ids
    rows = []
    for score in scores:
        group = score.group(name)
        order = np.argsort(group.ids, kind="stable")
        if group.ids.size != wanted.size or not np.array_equal(group.ids[order], np.sort(wanted)):
            raise IdMismatch(f"runs score different ids in group {name!r}: {wanted.size} and {group.ids.size}")
        rows.append(group.values[order[np.searchsorted(group.ids[order], wanted)]].astype(np.float64))
    return np.stack(rows)
