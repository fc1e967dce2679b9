"""Near duplicates by name: pairs agree with what semdedup drops, and the curve with what stays at each eps."""

from __future__ import annotations

import numpy as np
import pytest

import prunus as px
from prunus.core.errors import BadInput, NonFinite
from prunus.signals.rowset import Signals

pytest.importorskip("faiss")
IDS = np.array([f"row{k:03d}" for k in range(120)])


def signals() -> Signals:
    """Twenty rows, six copies of each, every copy a little farther from the first."""
    draw = np.random.default_rng(3)
    x = np.repeat(draw.standard_normal((20, 12)), 6, axis=0) + 0.05 * draw.standard_normal((120, 12))
    return Signals(IDS, embedding=x.astype(np.float32))


@pytest.mark.parametrize("rule", ["official", "components", "greedy"])
def test_pairs_are_what_semdedup_drops(rule):
    eps, given = 0.02, signals()
    found = px.near_duplicates(given, rule=rule, clusters=4, seed=5, eps=eps if rule == "greedy" else None)
    lines = found.pairs(eps)
    gone = {line["prunus_id"] for line in lines}
    assert 60 < len(gone) < 110 and not gone & {line["kept"] for line in lines}
    unit = given.embedding.double() / given.embedding.double().norm(dim=1, keepdim=True)
    at = {id_: place for place, id_ in enumerate(IDS)}
    for line in lines:
        cosine = float(unit[at[line["prunus_id"]]] @ unit[at[line["kept"]]])
        assert abs(cosine - line["cosine"]) < 1e-9 and (rule != "greedy" or cosine > 1 - eps)
    score = px.score(px.Dataset(np.ones((120, 2)), ids=IDS), "random", signals=given)
    options = {"select": "semdedup", "rule": rule, "clusters": 4, "eps": eps, "seed": 5}
    kept = px.plan(score, f"{120 - len(gone)} rows", **options).keep()
    assert set(kept.tolist()) == set(IDS.tolist()) - gone


def test_the_curve_comes_from_one_pass():
    found = px.near_duplicates(signals(), clusters=4)
    assert [line["kept"] for line in found.curve((0.01, 0.1))] == [120 - len(found.pairs(eps)) for eps in (0.01, 0.1)]
    kept = [line["kept"] for line in found.curve()]
    assert kept == sorted(kept, reverse=True) and found.curve()[0]["share"] == kept[0] / 120


def test_what_is_refused():
    with pytest.raises(BadInput, match="give eps under the greedy rule"):
        px.near_duplicates(signals(), rule="greedy")
    with pytest.raises(BadInput, match="no score here"):
        px.near_duplicates(signals(), keep="score")  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadInput, match="none came"):
        px.near_duplicates(Signals(IDS, loss=np.ones(120)))
    bad = np.asarray(signals().embedding).copy()
    bad[7, 0] = np.nan
    with pytest.raises(NonFinite, match="row007"):
        px.near_duplicates(Signals.with_bad_rows(IDS, embedding=bad))
