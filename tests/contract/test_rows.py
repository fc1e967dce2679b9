"""Contract of criteria over rows, through px.score and px.plan's own functions."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch

from contract import fixtures
from contract.catalogue import draws, every
from contract.checks import contents, generators_alone, round_trip, score_round_trip, threads
from prunus.core.errors import BadInput, BudgetUnreachable, IdMismatch, NonFinite, SplitError
from prunus.core.files import dump_json
from prunus.core.plan import Plan
from prunus.core.score import Score
from prunus.flow import rows as flow
from prunus.signals.rowset import Signals

BUDGET = "30% rows"


def scored(method, order=None, signals=None) -> Score:
    return measured(method, fixtures.dataset(order), signals or fixtures.row_signals())


def measured(method, data, signals) -> Score:
    return flow.score_rows(data, method.id, signals=signals, options=fixtures.options(method))


def planned(score: Score, budget=BUDGET, **settings) -> Plan:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return flow.plan_rows(score, budget, **settings)


@every("criterion", "rows")
def test_one_finite_number_for_each_row(method):
    score = scored(method)
    values = score.values[flow.GROUP]
    assert values.shape == (64,) and values.dtype in (np.float32, np.float64)
    assert np.isfinite(values).all()
    np.testing.assert_array_equal(score.ids[flow.GROUP], fixtures.arrays()[0])
    assert score.fingerprint == fixtures.dataset().fingerprint()
    dump_json(dict(score.provenance))


@every("criterion", "rows")
@pytest.mark.parametrize("select", ["top", "ccs", "random"])
def test_plan_bytes_depend_on_nothing_but_signals(method, select, tmp_path, monkeypatch):
    score = scored(method)
    if select == "ccs" and score.sense == "keep":
        return
    first = contents(planned(score, select=select), tmp_path / "first")
    order = np.random.RandomState(7).permutation(64)
    assert contents(planned(scored(method, order), select=select), tmp_path / "order") == first
    shuffled = fixtures.row_signals().take(order)
    assert contents(planned(scored(method, signals=shuffled), select=select), tmp_path / "signals") == first
    monkeypatch.setattr(flow, "CHUNK", 7)
    with threads(2):
        again = scored(method)
    np.testing.assert_array_equal(again.values[flow.GROUP], score.values[flow.GROUP])
    assert contents(planned(again, select=select), tmp_path / "chunks") == first


@every("criterion", "rows")
def test_budgets_are_met(method):
    score, data = scored(method), fixtures.dataset()
    for budget, count in ((BUDGET, 19), ("1 rows", 1), ("63 rows", 63), ("100% rows", 64)):
        plan = planned(score, budget)
        assert plan.planned == {"rows": float(count)} and plan.dense == {"rows": 64.0}
        assert len(plan.apply(data)) == plan.keep().size == count
    with pytest.raises(BudgetUnreachable, match="nearest reachable: 1 rows"):
        planned(score, "0% rows")
    with pytest.raises(BudgetUnreachable, match="nearest reachable: 64 rows"):
        planned(score, "65 rows")


@every("criterion", "rows")
def test_an_empty_class_takes_nothing(method):
    score = scored(method)
    labels = dict(zip(*(part.tolist() for part in fixtures.arrays()[::2])))
    sizes = {label: list(labels.values()).count(label) for label in fixtures.CLASSES}
    select = flow.default_selector(score)
    for settings in ({"select": select, "options": {"within": "class"}}, {"select": select, "allocate": "uniform"}):
        kept = [labels[i] for i in planned(score, "50% rows", **settings).keep().tolist()]
        assert len(kept) == 32
        assert all(abs(kept.count(label) - sizes[label] / 2) < 1 for label in fixtures.CLASSES)


@every("criterion", "rows")
def test_equal_rows_are_ties_and_the_lower_ids_stay(method):
    order = np.argsort(-fixtures.arrays()[0])
    if draws(method):
        return
    score = measured(method, fixtures.dataset(order), fixtures.equal_rows())
    assert np.unique(score.values[flow.GROUP]).size == 1
    kept = planned(score, "10 rows", select="top").keep()
    np.testing.assert_array_equal(kept, np.sort(fixtures.arrays()[0])[:10])


@every("criterion", "rows")
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused_by_id(method, wrong):
    signals, bad = fixtures.row_signals(), 5
    for name in method.needs:
        field = signals.field(name)
        if not field.is_floating_point():
            continue
        field = field.clone()
        field[bad] = wrong
        with pytest.raises(NonFinite, match=str(signals.ids[bad])):
            Signals(signals.ids, **{name: field})
        with pytest.raises((NonFinite, BadInput), match=str(signals.ids[bad])):
            scored(method, signals=fixtures.changed(signals, **{name: field}))


@every("criterion", "rows")
def test_scoring_changes_nothing(method):
    data, signals = fixtures.dataset(), fixtures.row_signals()
    before = copy.deepcopy({name: signals.field(name) for name in signals._parts})
    x = data.backing.column("x").copy()
    with generators_alone():
        score = measured(method, data, signals)
        planned(score)
    for name, value in before.items():
        assert torch.equal(signals.field(name), value)
    np.testing.assert_array_equal(data.backing.column("x"), x)
    assert data.reads.rows == 0


@every("criterion", "rows")
def test_files_hold_all_of_it(method, tmp_path):
    score = scored(method)
    score_round_trip(score, tmp_path / "score")
    plan = planned(score)
    round_trip(plan, tmp_path / "plan")
    again = planned(Score.load(tmp_path / "score"))
    assert again.hash() == plan.hash()


@every("criterion", "rows")
def test_what_is_missing_is_named(method):
    needs = [name for name in method.needs if name != "labels"]
    if needs:
        with pytest.raises(BadInput, match=needs[0]):
            measured(method, fixtures.dataset(), Signals(fixtures.arrays()[0], other=np.zeros(64)))
        with pytest.raises(IdMismatch, match="have no signals"):
            measured(method, fixtures.dataset(), fixtures.row_signals().take(np.arange(60)))
    with pytest.raises(SplitError):
        measured(method, fixtures.dataset(role="test"), fixtures.row_signals())


@every("criterion", "rows")
def test_a_target_is_asked_for(method):
    if "target" in method.keywords:
        with pytest.raises(BadInput, match="target="):
            flow.score_rows(fixtures.dataset(), method.id, signals=fixtures.row_signals())


@every("criterion", "rows")
def test_one_row(method):
    signals = fixtures.row_signals().take([3])
    data = fixtures.dataset(np.array([3]))
    score = measured(method, data, signals)
    assert planned(score, "100% rows", select="top").keep().tolist() == data.ids.tolist()
