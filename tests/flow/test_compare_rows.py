"""px.compare_rows: equal sizes, controls of the same count, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

import prunus as px
from prunus.core.errors import BadInput, IdMismatch

DRAW = np.random.RandomState(0)
X, Y = DRAW.randn(80, 5).astype(np.float32), np.arange(80) % 4
ROWS = px.Dataset((X, Y), ids=100 + np.arange(80), name="eighty")


def plan(budget: str, seed: int = 0) -> px.Plan:
    return px.plan(px.score(ROWS, "random", seed=seed), budget)


def test_plans_of_unequal_counts_are_measured_at_the_smallest_and_the_notes_say_so():
    report = px.compare_rows({"few": plan("20 rows"), "many": plan("40 rows", 1)}, ROWS, controls=0, clusters=4)
    shown = report.selections
    assert (shown.names, shown.rows) == (("few", "many"), 20)
    assert all(sum(kept) == 20 for bars in shown.bars for kept in bars.kept)
    assert report.notes[0].startswith("many keeps 40 rows; 20 of them")
    assert [row.kept for row in report.plans] == [20, 40] and report.verdicts == ()


def test_one_plan_stands_beside_its_controls():
    held = px.Dataset((X[:30] + 0.1, Y[:30]), role="val")
    report = px.compare_rows({"mine": plan("20 rows")}, ROWS, reference=held, controls=2, clusters=4, k=3)
    assert report.selections.names == ("mine", "random", "random_balanced") and report.selections.overlaps == ()
    assert {verdict.against for verdict in report.verdicts} == {"random", "random_balanced"}
    evenness = next(line for _, lines in report.selections.utilities for line in lines if line.metric == "evenness")
    assert evenness.values[2] == 1.0


def test_unlabelled_rows_have_no_balanced_control():
    bare = px.Dataset(X, ids=ROWS.ids)
    mine = px.plan(px.score(bare, "random"), "20 rows")
    assert px.compare_rows({"mine": mine}, bare, controls=1, clusters=4).selections.names == ("mine", "random")


def test_it_is_a_function_of_the_rows_and_not_of_their_order():
    order = DRAW.permutation(80)
    first = px.compare_rows({"a": plan("20 rows")}, ROWS, clusters=4)
    again = px.compare_rows({"a": plan("20 rows")}, ROWS.select(order), clusters=4)
    for (_, here), (_, there) in zip(first.selections.utilities, again.selections.utilities):
        for one, other in zip(here, there):
            np.testing.assert_allclose(np.array(one.values), np.array(other.values), rtol=1e-9)
    assert first.selections.witnesses[0][1][0].distance == pytest.approx(again.selections.witnesses[0][1][0].distance)


def test_other_units_and_other_rows_are_refused():
    with pytest.raises(BadInput, match="not none"):
        px.compare_rows({}, ROWS)
    layers = px.Plan(
        "layers", {"blocks": px.plan(px.score(ROWS, "random"), "20 rows").groups["rows"]}, px.Budget.parse("20 layers")
    )
    with pytest.raises(BadInput, match="not layers"):
        px.compare_rows({"a": layers}, ROWS)
    with pytest.raises(IdMismatch):
        px.compare_rows({"a": plan("20 rows")}, px.Dataset((X, Y)), clusters=4)
    with pytest.raises(BadInput, match="0 or more, not -1"):
        px.compare_rows({"a": plan("20 rows")}, ROWS, controls=-1)
