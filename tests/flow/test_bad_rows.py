"""Rows that can't be judged: named and refused, or quarantined; test rows, unlabelled rows, nothing but duplicates."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import prunus as px
from prunus.core import registry
from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite, SplitError
from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.signals.rowset import Signals
from prunus.signals.usable import WHAT, unusable

IDS = 100 + np.arange(40)
LABELS = np.arange(40) % 4
pytestmark = pytest.mark.filterwarnings("ignore:rows lie within", "ignore:below about")


def embedding(bad: bool = True) -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
    if bad:
        x[3], x[7, 2], x[8, 0] = 0, np.nan, np.inf
    return x


def signals(**more) -> Signals:
    return Signals.with_bad_rows(IDS, embedding=embedding(), labels=LABELS, **more)


def data(role: str = "fit", labels: bool = True) -> px.Dataset:
    x = np.ones((40, 2), dtype=np.float32)
    return px.Dataset((x, LABELS) if labels else x, ids=IDS, role=role)


def test_rows_that_are_not_finite_are_named():
    with pytest.raises(NonFinite, match=r"2 rows, such as ids \[107, 108\]"):
        Signals(IDS, embedding=embedding())
    np.testing.assert_array_equal(np.flatnonzero(unusable(signals(), ["embedding"])), [3, 7, 8])
    assert not unusable(signals(), ["labels", "nothing"]).any()


@pytest.mark.parametrize("select", ["k_center", "semdedup", "facility_location", "d2", "semdedup,random"])
def test_they_are_refused_by_id_or_quarantined(select):
    made = px.score(data(), "random", signals=signals())
    with pytest.raises(NonFinite, match="107"):
        px.plan(made, "20 rows", select=select)
    plan = px.plan(made, "20 rows", select=select, quarantine=True)
    assert plan.keep().size == 20 and not np.isin([103, 107, 108], plan.keep()).any()
    assert plan.reason_counts()[WHAT] == 3
    with pytest.raises(BudgetUnreachable, match=r"quarantined \(3\)") as caught:
        px.plan(made, "38 rows", select=select, quarantine=True)
    assert "37 rows" in str(caught.value)


def test_zero_vectors_are_refused_where_directions_count():
    x = embedding(bad=False)
    x[3] = 0
    made = px.score(data(), "random", signals=Signals(IDS, embedding=x, labels=LABELS))
    for select in ("semdedup", "facility_location", "graph_cut", "log_determinant"):
        with pytest.raises(BadInput, match="103"):
            px.plan(made, "20 rows", select=select)
    assert px.plan(made, "20 rows", select="k_center").keep().size == 20


def test_a_score_goes_on_without_them_and_no_plan_keeps_them():
    with pytest.raises((NonFinite, BadInput), match="10[378]"):
        px.score(data(), "prototypes", signals=signals())
    made = px.score(data(), "prototypes", signals=signals(), quarantine=True)
    assert made.provenance["quarantined"] == [103, 107, 108]
    good = np.delete(np.arange(40), [3, 7, 8])
    alone = px.score(data().select(good), "prototypes", signals=signals().take(good))
    np.testing.assert_array_equal(made.values["rows"][good], alone.values["rows"])
    assert made.values["rows"][3] == np.median(alone.values["rows"])
    plan = px.plan(made, "37 rows", select="top", keep="easiest")
    assert sorted(set(IDS.tolist()) - set(plan.keep().tolist())) == [103, 107, 108]
    with pytest.raises(BadInput, match="103.* are pinned"):
        px.plan(made, "10 rows", pin=[103])
    one_go = px.plan(data(), "prototypes", "20 rows", signals=signals(), quarantine=True, select="semdedup")
    assert one_go.reason_counts()[WHAT] == 3


def test_nothing_changes_where_every_row_is_good():
    found = Signals(IDS, embedding=embedding(bad=False), labels=LABELS)
    made, again = (px.score(data(), "prototypes", signals=found, quarantine=q) for q in (False, True))
    assert made.provenance == again.provenance
    plans = [px.plan(made, "20 rows", select="k_center", quarantine=q) for q in (False, True)]
    assert plans[0].provenance == plans[1].provenance and plans[0].reason_counts() == plans[1].reason_counts()


def test_test_rows_are_refused():
    made = px.score(data(), "random")
    with pytest.raises(SplitError, match="selecting rows was given .* role 'test'"):
        px.plan(made, "20 rows", data=data("test"))
    with pytest.raises(SplitError, match="role 'test'"):
        px.plan(data("test"), "random", "20 rows")


def test_without_labels_the_message_names_what_needs_none():
    made = px.score(data(labels=False), "random", signals=Signals(IDS, embedding=embedding(bad=False)))
    with pytest.raises(BadInput, match="moderate needs labels.* without labels there are .*k_center.*semdedup"):
        px.plan(made, "20 rows", select="moderate")
    with pytest.raises(
        BadInput, match="el2n needs labels.* name the label column.* does without: .*entropy.*prototypes"
    ):
        px.score(data(labels=False), "el2n", signals=Signals(IDS, probs=np.full((40, 2), 0.5)))
    with pytest.raises(BadInput, match="within='class'.*within='all'"):
        px.plan(made, "20 rows", select="k_center", within="class")


@pytest.mark.parametrize(
    "method", [pytest.param(m, id=m.name) for m in registry.methods(kind="selector") if not m.unit and m.name != "nm"]
)
def test_nothing_but_duplicates(method):
    x, half = np.ones((40, 5), dtype=np.float32), np.full(40, 0.5)
    found = Signals(IDS, embedding=x, labels=LABELS, probs=np.full((40, 4), 0.25), p_true_early=half)
    score, function = GroupScore(np.ones(40), IDS, "hard", found), method.load()
    wants = inspect.signature(function).parameters
    more: dict = {"rng": Rng(0, method.id)} if "rng" in wants else {}
    more |= {"target": x, "clusters": 2} if method.name == "snp" else {}
    for count in (1, 13, 40):
        assert np.unique(function(score, count, **more)).size == count


def test_nothing_but_duplicates_at_an_eps_leaves_one():
    x = np.ones((40, 5), dtype=np.float32)
    made = px.score(data(), "random", signals=Signals(IDS, embedding=x))
    for select in ("semdedup", "semdedup,random"):
        with pytest.raises(BudgetUnreachable, match="1 of 40|leaves 1 of 40"):
            px.plan(made, "5 rows", select=select, eps=0.01)
