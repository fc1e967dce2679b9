"""Sweeps over cuts: what their graphs share, what their tables say, and that they go on where they stopped."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cli.shell import done, refused
from prunus.core.errors import BadInput
from prunus.recipe import parse
from prunus.run.audit import audit, audit_graph, read_audit
from prunus.run.regimes import regimes, regimes_graph, temperatures
from prunus.run.stage import Graph

RECIPE: dict[str, Any] = {
    "run": {"name": "tiny", "seeds": [0, 1], "jobs": 0},
    "data": {"digits": {"source": "sklearn:digits", "fit": {"limit": 96}, "test": {"share": 0.25, "limit": 60}}},
    "model": {"cnn": {"source": "prunus:tinycnn", "options": {"width": 4}}},
    "train": {"long": {"epochs": 3, "batch": 32, "lr": 0.05}, "short": {"epochs": 1, "batch": 32, "lr": 0.05}},
    "recover": {"retrain": {"how": "finetune", "epochs": 1, "lr": 0.02, "batch": 32}},
    "arms": [
        {"train": ["short", "long"], "recover": "retrain", "prune": {"method": "magnitude", "budget": ["50% weights"]}}
    ],
}


def recipe(**changed: Any) -> Any:
    return parse({**copy.deepcopy(RECIPE), **changed})


def arm(**changed: Any) -> list[dict[str, Any]]:
    return [{**copy.deepcopy(RECIPE["arms"][0]), **changed}]


def stages(g: Graph) -> Counter[str]:
    return Counter(node.stage for node in g.nodes.values())


def test_every_copy_comes_from_one_cut_of_one_dense_model() -> None:
    found = stages(regimes_graph(recipe(run={**RECIPE["run"], "seeds": [0, 1, 2]}), 5))
    assert found == {"data": 1, "model": 1, "train": 2, "plan": 2, "apply": 2, "recover": 6, "measure": 6, "pair": 6}


def test_the_hotter_training_is_the_shorter_one_whatever_the_order() -> None:
    assert temperatures(recipe()) == ["long", "short"]
    hotter = {**RECIPE["train"], "short": {"epochs": 1, "batch": 16, "lr": 0.05}}
    with pytest.raises(BadInput, match="epochs and batch"):
        temperatures(recipe(train=hotter))


def test_sweeps_refuse_what_they_cannot_compare() -> None:
    with pytest.raises(BadInput, match="two seeds"):
        regimes_graph(recipe(run={**RECIPE["run"], "seeds": [0]}), 5)
    with pytest.raises(BadInput, match=r"\[recover\]"):
        audit_graph(recipe(arms=arm(recover="none")), 4)
    with pytest.raises(BadInput, match="cut a model once"):
        audit_graph(recipe(arms=arm(prune={"method": "el2n", "budget": "30% rows"})), 4)
    with pytest.raises(BadInput, match="random candidates"):
        audit_graph(recipe(), 0)


def test_candidates_have_the_counts_of_an_arm_and_the_seeds_of_all() -> None:
    two = arm(train="long", prune={"method": ["magnitude", "lamp"], "budget": "50% weights"})
    g = audit_graph(recipe(arms=two), 4)
    random = [n for n in g.nodes.values() if n.stage == "plan" and n.params["method"]["name"] == "random"]
    assert [n.params["seed"] for n in random] == [0, 1, 2, 3]
    assert len({n.inputs["like"] for n in random}) == 2
    assert stages(g)["train"] == 1
    assert (
        stages(g)["recover"]
        == 12
        == len({(n.inputs["model"], n.params["seed"]) for n in g.nodes.values() if n.stage == "recover"})
    )
    assert Counter(n.params["role"] for n in g.nodes.values() if n.stage == "measure") == {"fit": 6, "test": 12}


def test_pools_are_read_by_setting_and_budget() -> None:
    def row(what: str, value: float, like: str = "l1", metric: str = "loss") -> dict[str, Any]:
        return {"what": what, "like": like, "budget": "50%", "metric": metric, "value": value}

    before = [row(f"{name}, not retrained", value) for name, value in (("l1", 1.0), ("random 0 (as l1)", 2.0))]
    after = [row("l1", 0.5), row("l1", 0.7), row("random 0 (as l1)", 0.4), row("random 0 (as l1)", 0.4)]
    (found,) = read_audit([*before, *after], {"l1": "cnn"})
    assert found.pool == "cnn at 50%"
    assert found.after["loss"] == {"l1": pytest.approx(0.6), "random 0 (as l1)": pytest.approx(0.4)}
    assert (found.agreement["loss"].tau, found.agreement["loss"].anomalies) == (-1, 0.5)
    assert found.criteria == {"l1": 2}
    with pytest.raises(BadInput, match="gives no loss"):
        read_audit([row("l1", 0.5, metric="accuracy")], {"l1": "cnn"})


def test_both_sweeps_share_results_and_go_on(tmp_path: Path) -> None:
    report, found = regimes(recipe(), points=3, runs=tmp_path)
    assert [point.name for point in found.at("50% weights")] == ["long", "short"]
    assert all(point.error is not None and point.similarity <= 1 for point in found.points)
    assert report.made["pair"] == 2
    again, same = regimes(recipe(), points=3, runs=tmp_path)
    assert (dict(again.made), same) == ({}, found)
    report, pools = audit(recipe(), candidates=2, runs=tmp_path)
    assert "train" not in report.made and report.made["recover"] == 8
    assert [len(pool.before) for pool in pools] == [3, 3]
    assert all(set(pool.agreement) == {"accuracy", "loss"} for pool in pools)


TOML = """
run = { name = "tiny", seeds = [0, 1], jobs = 0 }
data.digits = { source = "sklearn:digits", fit = { limit = 96 }, test = { share = 0.25, limit = 60 } }
model.cnn = { source = "prunus:tinycnn", options = { width = 4 } }
train.long = { epochs = 2, batch = 32, lr = 0.05 }
train.short = { epochs = 1, batch = 32, lr = 0.05 }
recover.retrain = { how = "finetune", steps = 2, lr = 0.02, batch = 32 }
arms = [{ train = ["short", "long"], recover = "retrain", prune = { method = "magnitude", budget = "50% weights" } }]
"""


def test_from_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.toml").write_text(TOML)
    told = done("regimes", "r.toml", "--points", 3).out
    assert "training, coldest first" in told and "50% weights: prune from" in told
    found = done("audit", "r.toml", "--candidates", 2, "--json").json
    assert [pool["pool"] for pool in found["pools"]] == [
        f"digits, cnn, {t}, retrain at 50% weights" for t in ("short", "long")
    ]
    assert found["pools"][0]["verdict"]["accuracy"] == "too few candidates"
    assert "rank after retraining: magnitude (short)" in done("audit", "r.toml", "--candidates", 2).out
    assert "two seeds" in refused(2, "regimes", "r.toml", "run.seeds=[0]")
