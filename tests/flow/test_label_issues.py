"""Label issues: what is called, why, as a table and as a plan."""

from __future__ import annotations

import numpy as np
import pytest

import prunus as px
from prunus.core.errors import BadInput, SplitError
from prunus.flow.label_issues import label_issues
from prunus.maths.confident import confident

PROBS = np.array(
    [[0.9, 0.05, 0.05], [0.8, 0.1, 0.1], [0.85, 0.1, 0.05], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6]]
)
LABELS = np.array([0, 0, 1, 1, 1, 2])
NAMES = ("ant", "bee", "cat")


def rows(labels=LABELS, **more):
    return px.Dataset((np.zeros((len(labels), 2), np.float32), labels), ids=np.arange(len(labels)) * 10, **more)


def found(**settings):
    signals = px.Signals(ids=rows().ids, held_out_probs=PROBS)
    return px.label_issues(rows(classes=NAMES), signals=signals, **settings)


def test_a_confident_other_class_is_an_issue():
    issues = found()
    assert issues.ids.tolist() == [20]  # 0.85 of ant, whose rows get 0.85; rows 30 and 40 are below no other threshold
    (line,) = issues.table()
    assert (line["prunus_id"], line["given"], line["suggested"]) == (20, "bee", "ant")
    assert line["reason"].startswith("rows/label_quality ")
    assert "probability of ant 0.85 (rows of that class: 0.85), of bee 0.10" in line["reason"]
    assert (len(issues), issues.rows) == (1, 6)


def test_thresholds_are_those_of_each_class():
    probs = np.array([[0.5, 0.5, 0.0], [0.9, 0.1, 0.0], [0.4, 0.3, 0.3]])
    assert confident(probs, np.array([0.6, 0.4, 0.9])).tolist() == [1, 0, -1]


def test_a_share_calls_the_hardest_by_any_criterion():
    issues = found(share=0.5)
    assert issues.ids.tolist()[0] == 20 and len(issues) == 3
    signals = px.Signals(ids=rows().ids, aum=np.array([1.0, 2, 3, -4, 5, 6]), seen=np.full(6, 3))
    aum = px.label_issues(rows(), "aum", share=0.2, signals=signals)
    assert (aum.ids.tolist(), aum.suggested.tolist(), aum.reasons) == ([30], [-1], ("rows/aum -4",))
    assert aum.table()[0]["suggested"] is None
    both = signals.merge(px.Signals(ids=rows().ids, probs=PROBS))
    assert px.label_issues(rows(), "aum", share=0.2, signals=both).suggested.tolist() == [0]


def test_the_plan_drops_them_and_says_why():
    plan = found(share=0.5).plan()
    assert plan.dropped().tolist() == sorted(found(share=0.5).ids.tolist())
    assert "doubtful label by rows/label_quality: looks like ant" in plan.reason_names
    assert sum(plan.reason_counts().values()) == 3
    like = dict(zip(found(share=0.5).ids.tolist(), found(share=0.5).suggested.tolist()))
    codes = plan.reasons["rows"].tolist()
    assert [plan.reason_names[c].split()[-1] for c in codes] == [NAMES[like[i]] for i in plan.dropped().tolist()]
    assert len(plan.apply(rows())) == 3


def test_several_runs_are_averaged():
    other = PROBS.copy()
    other[2] = [0.0, 1.0, 0.0]
    runs = [px.Signals(ids=rows().ids, held_out_probs=probs) for probs in (PROBS, other)]
    assert len(label_issues(rows(), signals=runs)) == 0


def test_refusals():
    with pytest.raises(BadInput, match="share=0.1"):
        label_issues(rows(), "aum")
    with pytest.raises(BadInput, match="says what to keep"):
        label_issues(rows(), "dual", share=0.1)
    with pytest.raises(BadInput, match="between 0 and 1, not 10"):
        found(share=10)
    with pytest.raises(BadInput, match="has no labels"):
        label_issues(px.Dataset(np.zeros((3, 2), np.float32)))
    with pytest.raises(BadInput, match="pass signals="):
        label_issues(rows())
    with pytest.raises(BadInput, match="needs embedding"):
        label_issues(rows(), signals=px.Signals(ids=rows().ids, loss=np.ones(6)))
    with pytest.raises(SplitError):
        label_issues(rows(role="test"), signals=px.Signals(ids=rows().ids, held_out_probs=PROBS))
    with pytest.raises(BadInput, match=r"labels \[3\] are not in 0..2"):
        label_issues(rows(np.array([0, 0, 1, 1, 1, 3])), signals=px.Signals(ids=rows().ids, held_out_probs=PROBS))
    clean = np.eye(3)[LABELS] * 0.97 + 0.01
    with pytest.raises(BadInput, match="0 of 6 rows are label issues"):
        label_issues(rows(), signals=px.Signals(ids=rows().ids, held_out_probs=clean)).plan()
