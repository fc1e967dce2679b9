"""Sparse uniform replay and the rules it is compared with, against the released function: every array of both cases."""

from __future__ import annotations

import re

import numpy as np
import pytest

from prunus.core.score import GroupScore
from prunus.select.sur import sur
from prunus.signals.rowset import Signals

pytestmark = pytest.mark.golden("sur--")
RULES = {"sparse_robust": "sparse", "sparse_centroid_fixed": "sparse", "center": "center"}
RULES |= {"moderate": "moderate", "hard": "hard"}


def picks(case) -> list[tuple[str, int, np.ndarray]]:
    """(mode, rows asked for, rows in the released order) of every selection in the case; asked for at most all."""
    found = []
    for name in case:
        match = re.fullmatch(rf"(?:selected_)?({'|'.join(RULES)})(?:_(\d+))?", name)
        if match and match[2] is None:
            found.append((match[1], int(case.value("num_sample")), case[name]))
        elif match:
            found.append((match[1], int(case["num_samples"][int(match[2])]), case[name]))
    assert found
    return [(mode, min(count, len(case["features"])), released) for mode, count, released in found]


def scored(case, mode: str) -> GroupScore:
    """One class; the mode that is not robust knows no stability; the score is the predicted probability."""
    x = case["features"]
    stability = case["shuffle_similarity" if "shuffle_similarity" in case else "stability"]
    more = {} if mode == "sparse_centroid_fixed" else {"stability": stability}
    return GroupScore(case["prob"], np.arange(len(x)), "hard", Signals(embedding=x, **more), "class")


def test_the_released_picks_in_their_order(case):
    for mode, count, released in picks(case):
        options = {"rule": RULES[mode], "centre": case["centroid"], "within": "all", "parity": "official"}
        found = sur(scored(case, mode), count, **options)
        np.testing.assert_array_equal(found, released, err_msg=f"{mode}, {count} rows")


def test_our_own_rule_fills_the_count_from_every_distance(case):
    for mode, count, released in picks(case):
        score, rule = scored(case, mode), RULES[mode]
        found = sur(score, count, rule=rule, key="dot", centre=case["centroid"], within="all")
        assert np.unique(found).size == count
        if rule == "center":
            np.testing.assert_array_equal(found[: released.size], released)
        if rule != "sparse":
            continue
        order = np.argsort(-(case["features"].astype(np.float64) @ case["centroid"]), kind="stable")
        ranks = np.argsort(order)[found]
        half = count // 2
        chunks = np.searchsorted(np.round(np.arange(1, half + 1) * len(order) / half), ranks, side="right")
        assert np.bincount(chunks[: 2 * half], minlength=half).tolist() == [2] * half
