"""Curation: what must hold of each metric whatever the rows, and what a worse selection shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import prunus as px
from prunus.core.errors import BadInput, NonFinite, SplitError
from prunus.core.plan import Kept, Plan
from prunus.measure import class_counts as counts_of
from prunus.measure import embedded, knn
from prunus.measure.curation import curation
from prunus.measure.ground import ground

DRAW = np.random.RandomState(0)
CENTRES = 3 * DRAW.randn(4, 6)
LABELS = DRAW.choice(4, 240, p=[0.4, 0.3, 0.2, 0.1])
X = (CENTRES[LABELS] + DRAW.randn(240, 6)).astype(np.float32)
ROWS, REFERENCE = (X[:160], LABELS[:160]), (X[160:], LABELS[160:])


def data(order: np.ndarray | None = None) -> px.Dataset:
    at = np.arange(160) if order is None else order
    return px.Dataset((ROWS[0][at], ROWS[1][at]), ids=(7 * np.arange(160))[at])


def reference(role: str = "val") -> px.Dataset:
    return px.Dataset(REFERENCE, role=role)


def plan(kept: np.ndarray) -> Plan:
    ids = 7 * np.arange(160)
    return Plan("rows", {"rows": Kept.of_ids(ids[kept], 160, ids)}, px.Budget.parse(f"{len(kept)} rows"))


def values(kept: np.ndarray, **options) -> dict[str, float]:
    return {name: value for name, (value, _) in curation(plan(kept), data(), clusters=8, **options).items()}


def test_votes_do_not_depend_on_scale_or_rotation():
    turn = np.linalg.qr(DRAW.randn(6, 6))[0]
    first = knn.vote(*ROWS, REFERENCE[0], k=9)
    np.testing.assert_array_equal(
        knn.vote(5 * ROWS[0] @ turn, ROWS[1], 0.1 * REFERENCE[0] @ turn, k=9)[:, 0], first[:, 0]
    )


def test_one_neighbour_knows_itself_and_a_large_temperature_is_a_majority():
    assert knn.hits(knn.vote(*ROWS, ROWS[0], k=1), ROWS[1]).all()
    wide = knn.vote(*ROWS, REFERENCE[0], k=15, temperature=1e9)[:, 0]
    rows, asked = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (ROWS[0], REFERENCE[0]))
    near = np.argsort(-asked @ rows.T, axis=1)[:, :15]
    votes = np.stack([(ROWS[1][near] == label).sum(1) for label in range(4)], 1)
    assert (votes[np.arange(80), wide] == votes.max(1)).all()


def test_votes_of_one_block_and_of_many_agree(monkeypatch):
    first = knn.vote(*ROWS, REFERENCE[0])
    monkeypatch.setattr(knn, "BYTES", 8 * 160 * 7)
    np.testing.assert_array_equal(knn.vote(*ROWS, REFERENCE[0]), first)


def test_votes_that_can_not_be_counted_are_refused():
    for wrong in ({"k": 0}, {"temperature": 0.0}):
        with pytest.raises(BadInput):
            knn.vote(*ROWS, REFERENCE[0], **wrong)
    with pytest.raises(BadInput, match=r"\[160, 6\], \[80, 5\]"):
        knn.vote(*ROWS, REFERENCE[0][:, :5])
    with pytest.raises(NonFinite, match="1 queries"):
        knn.vote(*ROWS, np.where(np.arange(6) == 2, np.nan, REFERENCE[0][:1]))


def test_counts_at_their_limits():
    balanced = np.full(40, 5)
    assert (counts_of.head_share(balanced), counts_of.evenness(balanced)) == (pytest.approx(0.05), pytest.approx(1))
    one = np.array([9, 0, 0])
    assert (counts_of.coverage(one), counts_of.evenness(one), counts_of.rare(one, 10)) == (1, 0, 1)
    assert counts_of.distance(one, np.array([0, 4, 0])) == 1 and counts_of.distance(one, 3 * one) == 0
    falling = [counts_of.rare(np.array([1, 5, 9, 0]), limit) for limit in (10, 9, 5, 1)]
    assert falling == [3, 2, 1, 0]
    assert np.isnan(counts_of.correlation(np.ones(3), np.arange(3.0))) and np.isnan(
        counts_of.correlation(one[:1], one[:1])
    )
    with pytest.raises(BadInput, match=r"\[3\] are none of the classes 0..2"):
        counts_of.class_counts(np.array([0, 3]), 3)


def test_a_cap_takes_the_same_rows_in_any_order():
    ids, order = 7 * np.arange(160), DRAW.permutation(160)
    first = ids[counts_of.capped(ROWS[1], ids, 40)]
    again = ids[order][counts_of.capped(ROWS[1][order], ids[order], 40)]
    assert sorted(first) == sorted(again)
    assert np.bincount(ROWS[1][first // 7]).tolist() == [10, 10, 10, 10]


def test_copies_agreement_and_shift_find_what_was_done_to_the_rows():
    x, labels = ROWS
    assert embedded.copies(np.concatenate([x, 2 * x[:40]])) >= 80 / 200
    assert embedded.copies(np.eye(6)) == 0 == embedded.copies(np.zeros((3, 6)))
    wrong = labels.copy()
    wrong[:40] = (wrong[:40] + 1) % 4
    every = np.arange(160)
    found = embedded.agrees(wrong, x)
    assert found.mean() < embedded.agrees(labels, x).mean() - 0.15
    assert found[:40].mean() < 0.2
    near = embedded.shift(x, REFERENCE[0], every, np.arange(80))
    far = embedded.shift(x, REFERENCE[0] + 3, every, np.arange(80))
    assert 0 <= near < 0.02 < far < 1
    assert embedded.shift(np.zeros((2, 6)), np.ones((3, 6)), every[:2], every[:3]) == 1
    assert embedded.shift(x, x, every, every) < 0.01


def test_a_probe_tells_classes_apart_and_stands_one_class():
    assert (embedded.probe(*ROWS, REFERENCE[0]) == REFERENCE[1]).mean() > 0.9
    assert (embedded.probe(X[:5], np.full(5, 3), REFERENCE[0]) == 3).all()


def test_the_nearest_kept_row_is_the_nearest():
    at, away = embedded.nearest(REFERENCE[0], ROWS[0][:30])
    every = np.linalg.norm(REFERENCE[0][:, None] - ROWS[0][None, :30], axis=2)
    np.testing.assert_array_equal(at, every.argmin(1))
    np.testing.assert_allclose(away, every.min(1), rtol=1e-6)


def test_all_rows_are_as_good_as_it_gets_and_one_class_is_bad():
    some, one = np.arange(0, 160, 4), np.flatnonzero(ROWS[1] == 0)[:40]
    good, bad = values(some, reference=reference()), values(one, reference=reference())
    assert set(good) >= {"classes", "evenness", "distance_to_kept", "copy_share", "knn_accuracy", "probe_accuracy"}
    for name in ("knn_accuracy", "probe_accuracy", "evenness", "classes", "clusters"):
        assert good[name] > bad[name], name
    for name in ("distance_to_kept", "radius", "target_shift", "class_shift"):
        assert good[name] < bad[name], name
    assert "knn_top5_accuracy" not in good  # four classes


def test_metrics_do_not_depend_on_the_order_of_rows_or_on_blocks(monkeypatch):
    kept, score = np.arange(0, 160, 4), px.Score("rows", {"rows": X[:160, 0]}, "hard", {"rows": data().ids})
    first = curation(plan(kept), data(), reference=reference(), score=score)
    monkeypatch.setattr(embedded, "BYTES", 8 * 160 * 7)
    order = DRAW.permutation(160)
    again = curation(plan(kept), data(order), reference=reference(), score=score)
    assert first.keys() == again.keys()
    for name in first:
        assert again[name][0] == pytest.approx(first[name][0], rel=1e-9), name


def test_what_is_known_decides_what_is_measured():
    kept = np.arange(0, 160, 4)
    bare = px.Dataset(ROWS[0], ids=7 * np.arange(160))
    found = curation(plan(kept), bare, clusters=4)
    assert set(found) == {"rows", "distance_to_kept", "radius", "clusters", "copy_share"}
    assert found.facts == {"embedding": "the rows' own numbers"}
    signals = px.Signals(ids=data().ids, embedding=ROWS[0][:, :3])
    narrow = curation(plan(kept), data(), signals=signals, clusters=4)
    assert narrow["distance_to_kept"][0] < found["distance_to_kept"][0]
    hardest = px.Score("rows", {"rows": np.arange(160.0)}, "easy", {"rows": data().ids})
    assert values(kept, score=hardest)["rank"] == pytest.approx(1 - 78 / 159)
    told = curation(plan(kept), data(), reference=reference("test"), clusters=4)
    assert told.facts["reference_role"] == "test" and told.predictions is not None


def test_roles_widths_and_empty_selections_are_refused():
    kept = np.arange(40)
    with pytest.raises(SplitError):
        curation(plan(kept), data().with_role("test"))
    with pytest.raises(SplitError, match="reference of a selection"):
        curation(plan(kept), data(), reference=px.Dataset(REFERENCE))
    with pytest.raises(BadInput, match="6 numbers and those of the reference 5"):
        curation(plan(kept), data(), reference=px.Dataset((REFERENCE[0][:, :5], REFERENCE[1]), role="val"))
    with pytest.raises(BadInput, match="too wide"):
        curation(plan(kept), px.Dataset(np.zeros((160, 5000), np.float32), ids=data().ids))
    with pytest.raises(BadInput, match="without rows"):
        ground(data(), clusters=2).measure(np.zeros(0, dtype=np.int64))
    assert replace(ground(data(), clusters=2), k=500).measure(data().ids[:9])["label_agreement"][0] <= 1
