"""Score, Budget, Plan, randomness: what the contract of section 2 and 4 promises."""

import numpy as np
import pytest

from prunus.core import rng
from prunus.core.budget import Budget
from prunus.core.edits import AddBias, Bypass, SetWeight
from prunus.core.errors import BadInput, BudgetUnreachable, CorruptFile, NonFinite, SchemaTooNew, UnknownName
from prunus.core.plan import Kept, Plan
from prunus.core.results import Results, Row
from prunus.core.score import GroupScore, LazyValues, Score


@pytest.mark.parametrize(
    ("text", "short", "echo"),
    [
        ("30% rows", "30% rows", "keeps 30 % of rows, drops 70 %"),
        ("30 % of samples", "30% rows", "keeps 30 % of rows, drops 70 %"),
        ("5_000 images", "5000 rows", "keeps 5,000 rows, drops the rest"),
        ("50% macs", "50% macs", "keeps 50 % of macs, drops 50 %"),
        ("64 tokens", "64 tokens", "keeps 64 tokens, drops the rest"),
        ("drop 6 layers", "drop 6 layers", "drops 6 layers, keeps the rest"),
        ("drop 25% experts", "75% experts", "keeps 75 % of experts, drops 25 %"),
        ("sparsity 90%", "10% weights", "keeps 10 % of weights, drops 90 %"),
        ("2:4", "2:4", "keeps 2 of every 4 weights, drops 2 (50 % sparsity)"),
        (
            "60% params and 50% macs",
            "60% params and 50% macs",
            "keeps 60 % of params, drops 40 % and keeps 50 % of macs, drops 50 %",
        ),
    ],
)
def test_budget_says_both_sides_and_round_trips(text, short, echo):
    budget = Budget.parse(text)
    assert budget.short() == short
    assert str(budget) == echo
    assert Budget.parse(short) == budget
    assert Budget.from_json(budget.to_json()) == budget


@pytest.mark.parametrize(
    "text", ["", "lots", "130% rows", "1.5 rows", "5:4", "0:4", "8 ms at noon", "30% rows and 20% rows"]
)
def test_budget_refuses(text):
    with pytest.raises(BadInput):
        Budget.parse(text)


def test_budget_names_the_nearest_quantity():
    with pytest.raises(UnknownName, match="macs"):
        Budget.parse("50% mac_s".replace("_", "x"))
    with pytest.raises(UnknownName, match="round_to"):
        Budget.parse("50% macs", roundto=8)


def test_budget_counts():
    assert Budget.parse("30% rows").count(10) == 3
    assert Budget.parse("30% rows").count(1297) == 389
    assert Budget.parse("drop 6 layers").count(30) == 24
    assert Budget.parse("sparsity 50%").drop_count(15) == 7
    with pytest.raises(BudgetUnreachable, match="1 rows"):
        Budget.parse("1% rows").count(10)
    with pytest.raises(BudgetUnreachable, match="10 rows"):
        Budget.parse("11 rows").count(10)


@pytest.mark.parametrize("ids", [np.arange(2000), np.array([f"img/{i}.png" for i in range(2000)])])
def test_draws_follow_ids_not_order(ids):
    order = np.random.default_rng(0).permutation(ids.size)
    u = rng.uniform(3, "split", ids)
    assert np.array_equal(rng.uniform(3, "split", ids[order]), u[order])
    wide = ids if ids.dtype.kind != "U" else ids.astype("<U64")
    assert np.array_equal(rng.uniform(3, "split", wide), u)
    assert not np.array_equal(rng.uniform(4, "split", ids), u)
    assert abs(u.mean() - 0.5) < 0.03
    assert np.unique(u).size == u.size
    draw = rng.Rng(0, "a")
    assert set(ids[draw.sample(ids, 100)]) == set(ids[order][draw.sample(ids[order], 100)])


def test_order_breaks_ties_by_id_and_refuses_nan():
    score = GroupScore(np.array([1.0, 2.0, 2.0, 0.5]), np.array([7, 9, 3, 1]), "hard")
    assert score.keep_order().tolist() == [2, 1, 0, 3]
    assert score.keep_order("easy").tolist() == [3, 0, 2, 1]
    assert GroupScore(score.values, score.ids, "easy").keep_order().tolist() == [3, 0, 2, 1]
    with pytest.raises(NonFinite, match=r"\[9\]"):
        GroupScore(np.array([1.0, np.nan]), np.array([7, 9]), "keep", name="g").keep_order()


def test_score_round_trip(tmp_path):
    score = Score(
        "rows", {"rows": np.arange(3.0)}, "hard", {"rows": np.array(["a", "b", "ç"])}, "f", {"method": "rows/x"}
    )
    same = Score.load(score.save(tmp_path))
    assert same.group("rows").ids.tolist() == ["a", "b", "ç"]
    assert same.sense == "hard"
    with pytest.raises(BadInput, match="unique"):
        Score("rows", {"g": np.zeros(2)}, ids={"g": np.array([1, 1])}).check()
    lazy = Score("weights", LazyValues(("w",), lambda name: np.ones((2, 2))))
    with pytest.raises(BadInput, match="never written"):
        lazy.save(tmp_path)


def make_plan() -> Plan:
    groups = {
        "rows": Kept.of_ids(np.array(["b", "a"]), 4, np.array(["a", "b", "c", "d"])),
        "w": Kept.of_mask(np.array([[1, 0, 1], [0, 0, 1]])),
        "conv.weight:0": Kept.of_ids(np.array([0, 2, 3]), 5),
    }
    edits = (AddBias("fc", np.ones(3)), SetWeight("conv.weight", np.zeros((5, 2))), Bypass("blocks.3"))
    reasons = {"rows": np.array([0, 1], dtype=np.uint8)}
    return Plan(
        "rows",
        groups,
        Budget.parse("50% rows"),
        {"rows": 2},
        {"rows": 4},
        edits,
        reasons,
        ("duplicate", "low score"),
        {"m": 1},
        "fp",
    )


def test_plan_round_trips_to_equal_bytes(tmp_path):
    plan = make_plan()
    plan.save(tmp_path / "a")
    same = Plan.load(tmp_path / "a")
    same.save(tmp_path / "b")
    for name in ("plan.json", "plan.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert same.hash() == plan.hash()
    assert same.dropped("rows").tolist() == ["c", "d"]
    assert same.keep("w").tolist() == [0, 2, 5]
    assert same.dropped("conv.weight:0").tolist() == [1, 4]
    assert same.reason_counts() == {"duplicate": 1, "low score": 1}
    assert isinstance(same.edits[2], Bypass)
    assert not plan.diff(same)
    assert [row["kept"] for row in plan.table()] == [2, 3, 3]


def test_plan_files_are_checked(tmp_path):
    make_plan().save(tmp_path)
    data = (tmp_path / "plan.safetensors").read_bytes()
    (tmp_path / "plan.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptFile):
        Plan.load(tmp_path)
    (tmp_path / "plan.safetensors").write_bytes(data)
    head = (tmp_path / "plan.json").read_text()
    (tmp_path / "plan.json").write_text(head.replace('"schema": 1', '"schema": 99'))
    with pytest.raises(SchemaTooNew, match="99"):
        Plan.load(tmp_path)
    (tmp_path / "plan.json").write_text(head[:100])
    with pytest.raises(CorruptFile):
        Plan.load(tmp_path)


def test_plan_that_removes_nothing_needs_a_full_budget():
    everything = {"g": Kept.of_ids(np.arange(4), 4)}
    with pytest.raises(BadInput, match="removes nothing"):
        Plan("channels", everything, Budget.parse("90% channels"))
    assert Plan("channels", everything, Budget.parse("100% channels")).removes_nothing


def test_plan_after_its_parent():
    ids = np.arange(6)
    parent = Plan("rows", {"rows": Kept.of_ids(np.array([0, 2, 4]), 6, ids)}, Budget.parse("50% rows"))
    child = Plan("rows", {"rows": Kept.of_ids(np.array([2, 3, 4]), 6, ids)}, Budget.parse("50% rows"))
    after = child.after(parent)
    assert after.keep("rows").tolist() == [2, 4]
    assert after.dropped("rows").tolist() == [0]
    assert after.parent == parent.hash()
    layers = Plan("layers", {"model.layers": Kept.of_ids(np.array([0, 2, 3]), 4)}, Budget.parse("3 layers"))
    groups = {f"model.layers.{i}.mlp.up.weight:0": Kept.of_ids(np.array([1, 2]), 4) for i in range(4)}
    cut = Plan(
        "channels", groups, Budget.parse("50% channels"), edits=(AddBias("model.layers.3.mlp.down", np.ones(2)),)
    ).after(layers)
    assert list(cut.groups) == [f"model.layers.{i}.mlp.up.weight:0" for i in range(3)]
    assert cut.edits[0].module == "model.layers.2.mlp.down"
    again = Plan("channels", {"g": Kept.of_ids(np.array([1, 3]), 4)}, Budget.parse("50% channels"))
    once = Plan("channels", {"g": Kept.of_ids(np.array([0, 1, 3]), 4)}, Budget.parse("75% channels"))
    assert again.after(once).keep("g").tolist() == [1, 2]


def test_results_round_trip_and_print(tmp_path):
    rows = tuple(Row("random", "rows/random", "30% rows", s, "accuracy", 0.5 + s / 100, control=True) for s in range(2))
    results = Results((*rows, Row("dense", "", "", None, "params", 10.0, (9.0, 11.0))))
    same = Results.read([results.write(tmp_path / "m.jsonl")])
    assert same.rows == results.rows
    assert same.values(what="random") == {0: 0.5, 1: 0.51}
    assert "control" in str(results)
    assert "no control was run" in str(results.where(what="dense"))
    (tmp_path / "m.jsonl").write_text("{")
    with pytest.raises(CorruptFile, match="line 1"):
        Results.read([tmp_path / "m.jsonl"])
