"""The graph: what is shared, what depends on the seed, what reads what."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest

from prunus.core.errors import BadInput, UnknownName
from prunus.recipe import parse
from prunus.run.catalogue import Facts, method_facts
from prunus.run.resolve import resolve
from prunus.run.stage import Graph, Node
from run.tiny_stages import RECIPE

KNOWN = {
    "el2n": Facts("criterion", ("probs", "labels")),
    "aum": Facts("criterion", ("margin",)),
    "l1": Facts("criterion", ("weight",)),
    "taylor": Facts("criterion", ("weight", "grad")),
    "flap": Facts("criterion", ("weight", "input_var"), defaults={"compensate": "mean_bias"}),
    "mean_bias": Facts("compensator", ("input_mean",)),
    "random": Facts("criterion", random=True),
    "rs2": Facts("dynamic", random=True),
    "wanda": Facts("criterion", ("weight", "input_norm")),
    "sparsegpt": Facts("solver", ("hessian",)),
    "fastervlm": Facts("criterion", ("cls_attention",)),
    "ccs": Facts("selector", random=True),
    "craig": Facts("selector", ("embedding",), weighs=True),
    "joint_ls": Facts("compensator", ("covariance",)),
    "by_recall": Facts("allocator", ("recalls",), val=("probs", "labels")),
}


def graph(arms: list[dict[str, Any]], **changed: Any) -> Graph:
    raw = copy.deepcopy(RECIPE) | {"controls": {u: [] for u in ("rows", "channels", "weights", "tokens")}} | changed
    return resolve(parse({**raw, "arms": arms}), lambda unit, name: KNOWN[name])


def stages(g: Graph) -> Counter[str]:
    return Counter(node.stage for node in g.nodes.values())


def of(g: Graph, stage: str) -> list[Node]:
    return [node for node in g.nodes.values() if node.stage == stage]


def rows(**changed: Any) -> dict[str, Any]:
    return {"prune": {"method": "el2n", "budget": "30% rows"} | changed}


GIVEN = {"source": "prunus:net", "weights": "w.safetensors"}
RECORDED = {"train": "main"}


def test_order_and_shared_nodes() -> None:
    g = graph([rows(method=["el2n", "aum"], budget=["30% rows", "10% rows"])], signals=RECORDED)
    seen: set[str] = set()
    for node_id, node in g.nodes.items():
        assert set(node.inputs.values()) <= seen
        seen.add(node_id)
    count = stages(g)
    assert (count["data"], count["signals"], count["score"], count["plan"]) == (1, 1, 2, 4)
    assert count["train"] == 2 * (1 + 4)
    signals = of(g, "signals")[0].params
    assert signals["need"] == ["margin", "probs"]  # one training records all; labels need no pass
    assert signals["train"]["epochs"] == 1


def test_new_budget_reuses_scores() -> None:
    small, large = graph([rows()]), graph([rows(budget=["30% rows", "10% rows"])])
    kept = {node_id for node_id, node in small.nodes.items() if node.stage in ("signals", "score", "plan", "train")}
    assert kept <= large.nodes.keys()


def test_seed_only_where_it_matters() -> None:
    arms = [{"prune": {"method": ["l1", "random"], "budget": "50% macs"}}]
    count = stages(graph(arms, model=GIVEN))
    assert count["score"] == 1 + 2
    assert count["plan"] == 1 + 2
    drawn = graph([rows(select="ccs")], signals=RECORDED)
    assert (stages(drawn)["score"], stages(drawn)["plan"]) == (1, 2)
    assert "seed" not in of(drawn, "score")[0].params


def test_data_free_criteria_need_no_pass() -> None:
    assert stages(graph([{"prune": {"method": "l1", "budget": "50% macs"}}], model=GIVEN))["signals"] == 0
    compensated = {"prune": {"method": "l1", "budget": "50% macs", "compensate": "joint_ls"}}
    assert of(graph([compensated], model=GIVEN), "signals")[0].params["need"] == ["covariance"]


def test_what_a_method_is_combined_with_by_itself_is_measured_too() -> None:
    arm = {"method": "flap", "budget": "50% macs"}
    own = of(graph([{"prune": arm}], model=GIVEN), "signals")[0].params["need"]
    none = of(graph([{"prune": arm | {"compensate": "none"}}], model=GIVEN), "signals")[0].params["need"]
    assert (own, none) == (["input_mean", "input_var"], ["input_var"])


def test_dynamic_rows_are_chosen_while_training() -> None:
    g = graph([rows(method="rs2")])
    assert stages(g)["plan"] == 0
    told = [node.params["dynamic"] for node in of(g, "train") if "dynamic" in node.params]
    assert told == [{"method": {"name": "rs2", "options": {}}, "budget": "30% rows"}] * 2


def test_weights_and_solvers_have_no_score_file() -> None:
    arms = [{"prune": {"method": ["wanda", "sparsegpt"], "budget": "50% weights"}}]
    g = graph(arms, model=GIVEN)
    assert stages(g)["score"] == 0
    assert all("signals" in node.inputs for node in of(g, "plan"))
    assert {node.params["kind"] for node in of(g, "plan")} == {"criterion", "solver"}


def test_tokens_are_scored_while_running() -> None:
    g = graph([{"prune": {"method": "fastervlm", "budget": "8 tokens", "at": "vision.output"}}], model=GIVEN)
    assert (stages(g)["signals"], stages(g)["score"], stages(g)["apply"]) == (0, 0, 1)


def test_units_in_order() -> None:
    steps = [{"method": "el2n", "budget": "30% rows"}, {"method": "taylor", "budget": "50% macs"}]
    g = graph([{"prune": steps, "recover": "main"}], recover={"how": "finetune", "epochs": 1}, run={"name": "x"})
    first, second = of(g, "plan")
    assert "parent" not in second.inputs  # the first is over rows
    assert "model" not in first.inputs
    trained = g.nodes[second.inputs["model"]]
    assert trained.stage == "train"
    assert trained.inputs["plan"] == first.id
    recover = next(node for node in of(g, "recover") if "rows" in node.inputs)
    assert recover.inputs["rows"] == first.id
    assert recover.inputs["plan"] == second.id
    assert recover.inputs["dense"] == trained.id
    assert {tag.arm for tags in g.measures.values() for tag in tags} == {
        "dense",
        "dense, recovered",
        "el2n then taylor, not recovered",
        "el2n then taylor",
    }


def test_second_cut_names_its_parent() -> None:
    steps = [{"method": "taylor", "budget": "50% macs"}, {"method": "wanda", "budget": "50% weights"}]
    first, second = of(graph([{"prune": steps}], model=GIVEN), "plan")
    assert second.inputs["parent"] == first.id
    assert second.inputs["dense"] == first.inputs["model"]


def test_control_copies_counts_of_its_arm() -> None:
    arms = [{"prune": {"method": "taylor", "budget": "50% macs"}, "controls": ["random"]}]
    g = graph(arms, model=GIVEN)
    copies = [node for node in of(g, "plan") if "like" in node.inputs]
    assert len(copies) == 2
    assert {g.nodes[node.inputs["like"]].params["method"]["name"] for node in copies} == {"taylor"}


def test_what_no_seed_changes_is_measured_once() -> None:
    g = graph([{"prune": {"method": "l1", "budget": "50% macs"}}], model=GIVEN)
    assert [len(tags) for tags in g.measures.values()] == [2, 2]


def test_two_dynamic_methods() -> None:
    with pytest.raises(BadInput, match="only one method"):
        graph([{"prune": [{"method": "rs2", "budget": "30% rows"}] * 2}])


def test_unknown_input_and_method() -> None:
    with pytest.raises(BadInput, match="not there"):
        Graph().add(Node("train", {}, {"data": "data-0"}))
    with pytest.raises(UnknownName, match="nonesuch"):
        method_facts("rows", "nonesuch")


def test_equal_steps_and_equal_epochs_share_the_training_on_every_row() -> None:
    train = {"same_steps": {"epochs": 2}, "same_epochs": {"epochs": 2, "equal": "epochs"}}
    g = graph([rows(method="random") | {"train": ["same_steps", "same_epochs"]}], train=train)
    whole, few = ([node for node in of(g, "train") if ("plan" in node.inputs) == kept] for kept in (False, True))
    assert (len(whole), len(few)) == (2, 4)  # two seeds
    assert {node.params["equal"] for node in few} == {"steps", "epochs"}


def test_the_dense_arm_of_the_next_seed_teaches_the_rows_that_stay() -> None:
    g = graph([rows() | {"teacher": "full"}], teacher={"full": {"alpha": 0.9}}, run={"name": "x", "seeds": [0, 1]})
    taught = [node for node in of(g, "train") if "teacher" in node.inputs]
    dense = {node.params["seed"]: node.id for node in of(g, "train") if not node.inputs.keys() & {"teacher", "plan"}}
    assert {node.params["seed"]: node.inputs["teacher"] for node in taught} == {0: dense[1], 1: dense[2]}
    assert sorted(dense) == [0, 1, 2]
    assert all(node.params["teacher"] == {"alpha": 0.9, "temperature": 4.0} for node in taught)
    assert all("teacher" not in node.params for node in of(g, "train") if node not in taught)
    measured = {tag.dense for tags in g.measures.values() for tag in tags if tag.budget}
    assert measured == {"dense"}


def test_the_untaught_control_is_the_same_rows_beside_the_same_dense_arm() -> None:
    g = graph([rows() | {"teacher": "full", "controls": ["no_teacher"]}], teacher={"full": {}}, signals=RECORDED)
    (plan,) = of(g, "plan")
    kinds = {node.inputs.get("teacher", "") != "" for node in of(g, "train") if node.inputs.get("plan") == plan.id}
    assert kinds == {True, False}
    tags = [tag for found in g.measures.values() for tag in found if tag.control]
    assert {(tag.like, tag.dense) for tag in tags} == {("el2n, taught by full", "dense")}


def test_a_teacher_has_its_own_model_training_and_seed_or_is_given() -> None:
    models = {"small": RECIPE["model"], "large": {"source": "prunus:large"}, "given": GIVEN}
    train = {"short": {"epochs": 1}, "long": {"epochs": 5}}
    arm = rows() | {"model": "small", "train": "short"}
    told = {"model": "large", "train": "long", "seed": 7}
    g = graph([arm | {"teacher": "big"}], model=models, train=train, teacher={"big": told})
    (teacher,) = {node.inputs["teacher"] for node in of(g, "train") if "teacher" in node.inputs}
    assert (g.nodes[teacher].params["epochs"], g.nodes[teacher].params["seed"]) == (5, 7)
    assert g.nodes[g.nodes[teacher].inputs["model"]].params["source"] == "prunus:large"
    g = graph(
        [arm | {"teacher": "big"}], model=models, train=train, teacher={"big": {"model": "given", "train": "none"}}
    )
    (teacher,) = {node.inputs["teacher"] for node in of(g, "train") if "teacher" in node.inputs}
    assert g.nodes[teacher].stage == "model" and g.nodes[teacher].params["weights"] == "w.safetensors"
    with pytest.raises(BadInput, match="no weights"):
        graph([arm | {"teacher": "big"}], model=models, train=train, teacher={"big": {"train": "none"}})


def test_validation_rows_are_measured_where_a_method_reads_them() -> None:
    by_class = rows(allocate={"name": "by_recall", "recall": [0.5]}, over="clusters:5")
    g = graph([by_class, rows()], signals=RECORDED)
    recorded, plain = of(g, "signals")[0].params, of(graph([rows()], signals=RECORDED), "signals")[0].params
    assert len(of(g, "signals")) == 1 and recorded["val"] == ["probs"] and "val" not in plain
    split, whole = (node.params for node in of(g, "plan"))
    assert split["over"] == "clusters:5" and split["allocate"]["options"] == {"recall": [0.5]}
    assert "over" not in whole and "allocate" not in whole


def test_loss_weights_are_told_where_the_selector_gives_some() -> None:
    g = graph([rows(select="craig"), rows(select="craig", weights=False), rows(select="ccs")], signals=RECORDED)
    told = {node.params["select"]["name"]: set() for node in of(g, "plan")}
    for node in of(g, "plan"):
        told[node.params["select"]["name"]].add(node.params.get("weights"))
    assert told == {"craig": {True, False}, "ccs": {None}}
    arms = {tag.arm for tags in g.measures.values() for tag in tags}
    assert {"el2n + craig", "el2n + craig, unweighted"} <= arms


def test_combined_images_are_those_that_stay_in_the_order_of_their_score() -> None:
    train = {"plain": {"epochs": 1}, "packed": {"epochs": 1, "combine": {"factor": 2}}}
    g = graph([rows(select="ccs") | {"train": ["plain", "packed"]}], train=train, signals={"train": "packed"})
    packed = [node for node in of(g, "train") if "combine" in node.params]
    assert len(packed) == 2 and all(node.inputs.keys() >= {"plan", "score"} for node in packed)
    whole = [node for node in of(g, "train") if "plan" not in node.inputs]
    assert len(whole) == 2  # one for each seed: training on every row knows nothing of it
    assert "combine" not in of(g, "signals")[0].params["train"]
    with pytest.raises(BadInput, match="chosen while training"):
        graph([rows(method="rs2") | {"train": "packed"}], train=train)


def test_one_cut_is_recovered_in_every_way_that_is_listed() -> None:
    tables = {
        "tuned": {"how": "finetune", "epochs": 2},
        "scratch": {"how": {"name": "scratch", "budget": "B"}, "epochs": 4},
    }
    cut = {"prune": {"method": "l1", "budget": "50% macs"}, "recover": ["tuned", "scratch"]}
    g = graph([cut], model=GIVEN, recover=tables, controls={"channels": ["random"]})
    assert stages(g)["apply"] == 1 + 2  # the arm, and its control of two seeds
    assert sorted(node.params["how"][0]["name"] for node in of(g, "recover")) == ["finetune"] * 6 + ["scratch"] * 6
    arms = {tag.arm for tags in g.measures.values() for tag in tags}
    assert {"l1, tuned", "l1, scratch"} <= arms
