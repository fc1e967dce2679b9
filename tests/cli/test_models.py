"""Models from the shell: check, plan, apply, recover, measure, compare; gates; budgets against the dense model."""

from __future__ import annotations

import json

import pytest
import torch

import prunus as px
from cli.shell import done, prunus, refused


def test_check_lists_groups_frozen_axes_and_units(made):
    found = done("check", "prunus:tinycnn", "--json").json
    assert [group["size"] for group in found["groups"]] == [16, 32]
    assert found["weights"]["matrices"] == 3
    text = done("check", "prunus:tinyvit", "--size", 16).out
    assert "16 behind each of 4 blocks" in text
    assert "prunable share" in text and "frozen by" in text


def test_check_takes_a_shape_for_code_of_your_own(here):
    (here / "mine.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 2))\n"
    )
    assert "--allow-code" in refused(2, "check", "mine.py:net")
    assert "--shape" in refused(2, "check", "mine.py:net", "--allow-code")
    found = done("check", "mine.py:net", "--allow-code", "--shape", "1,6", "--json").json
    assert found["params"] == 47


def test_plan_apply_measure_recover_in_a_chain_of_folders(made, here):
    found = done(
        "plan", made / "dense", "taylor", "50% macs", "--data", made / "train.npz", "--out", "p", "--json"
    ).json
    assert found["planned"]["macs"] <= 0.505 * found["dense"]["macs"]
    applied = done("apply", "p", made / "dense", "--out", "half", "--json").json
    assert applied["got"]["macs"] == applied["planned"]["macs"]
    done("recover", "half", "--data", made / "train.npz", "--epochs", 1, "--batch", 60, "--out", "back")
    found = done(
        "measure", "back", made / "test.npz", "--dense", made / "dense", "--metrics", "accuracy,params", "--json"
    ).json
    rows = {(row["what"], row["metric"]): row for row in found["results"]}
    assert rows["back", "params"]["value"] < rows["dense", "params"]["value"]
    assert rows["back", "params"]["budget"] == "50% macs"


def test_searches_read_the_rows_themselves(made, here):
    flags = ("--data", made / "train.npz", "--out", "p", "--json", "--steps", 4, "--batch", 60)
    found = done("plan", made / "dense", "masksparsity", "60% channels", *flags).json
    assert found["planned"]["channels"] <= 0.6 * found["dense"]["channels"]
    assert done("apply", "p", made / "dense", "--out", "less", "--json").json["got"]["params"]


def test_ranks_are_planned_applied_and_read_again(made, here):
    flags = ("--data", made / "train.npz", "--json")
    found = done("plan", made / "dense", "svd_llm", "60% params", *flags, "--scope", "global", "--out", "p").json
    assert found["unit"] == "ranks" and found["planned"]["params"] <= 0.6 * found["dense"]["params"]
    got = done("apply", "p", made / "dense", "--out", "thin", "--json").json["got"]
    assert {name: found["planned"][name] for name in ("params", "macs")} == got
    again = done("measure", "thin", "--metrics", "params", "--json").json["results"]
    assert next(row["value"] for row in again if row["metric"] == "params") == got["params"]
    flags = ("--scheme", "spatial", "--out", "q", "--json")
    assert done("plan", made / "dense", "ranks/svd", "60% params", *flags).json["method"] == "ranks/svd"
    assert "does not belong" in refused(
        2, "plan", made / "dense", "l1", "60% params", "--scheme", "spatial", "--out", "r"
    )


def test_shared_weights_are_counted_once(made, here):
    done("plan", made / "dense", "stable_rps", "10% weights", "--out", "p")
    found = done("apply", "p", made / "dense", "--out", "shared", "--json").json
    assert found["got"]["weights"] == found["planned"]["weights"] <= 0.1 * found["dense"]["weights"]
    assert found["got"]["params"] < 0.5 * found["dense"]["weights"]


def test_folders_load_in_python(made, here):
    done("apply", made / "cut", made / "dense", "--out", "half")
    net = px.load("half", like=px.open_model("prunus:tinycnn", weights="random"))
    assert net(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_a_folder_that_px_save_wrote_needs_its_constructor(made, here):
    net = px.open_model("prunus:tinycnn", weights="random")
    plan = px.plan(net, "l1", "50% macs", example=torch.zeros(1, 1, 8, 8), compensate="none")
    px.save(plan.apply(net), plan, "half")
    assert "--like" in refused(2, "measure", "half", "--metrics", "params")
    found = done("measure", "half", "--like", "prunus:tinycnn", "--metrics", "params,macs,size", "--json").json
    assert {row["metric"] for row in found["results"]} >= {"params", "macs"}


def test_geometry_beside_other_measures(made, here):
    found = done(
        "measure", made / "dense", made / "test.npz", "--metrics", "params", "--geometry", "--batch", "50", "--json"
    ).json
    assert {"params", "angle", "length", "margin"} <= {row["metric"] for row in found["results"]}
    told = refused(2, "measure", made / "dense", made / "test.npz", "--geometry", "--corruptions", "rain,fog")
    assert "rain" in told and "fog" in told


def test_two_models_beside_each_other(made, here):
    words = ("measure", made / "dense", f"{made / 'train.npz'}?role=fit", "--metrics", "similarity,connectivity")
    assert "--dense" in refused(2, *words)
    found = done(*words, "--dense", made / "dense", "--points", 3, "--json").json
    values = {row["metric"]: row["value"] for row in found["results"]}
    assert values["cka"] > 0.999 and values["connectivity"] == values["distance"] == 0


def test_weights_are_masked_and_stay_masked_in_recovery(made, here):
    done("plan", made / "dense", "magnitude", "40% weights", "--out", "p")
    assert "size and its time are unchanged" in done("apply", "p", made / "dense", "--out", "masked").out
    done("recover", "masked", "--how", "finetune", "--steps", 2, "--data", made / "train.npz", "--out", "back")
    found = done("measure", "back", "--metrics", "params", "--json").json
    values = {row["metric"]: row["value"] for row in found["results"]}
    assert values["nonzero_params"] < 0.5 * values["params"]


def test_plans_over_layers_and_tokens(made, here):
    assert "drops 1 layers" in done("plan", "prunus:resnet14", "random", "drop 1 layers", "--out", "l").out
    done("apply", "l", "prunus:resnet14", "--out", "shallow")
    assert "50.0 %" in done("plan", "prunus:tinyvit", "fastervlm", "8 tokens", "--at", 2, "--out", "t").out
    done("apply", "t", "prunus:tinyvit", "--out", "fewer")
    assert done("measure", "fewer", "--metrics", "params,macs").code == 0


def test_score_over_channels_serves_many_budgets(made, here):
    done("score", made / "dense", "taylor", "--data", made / "train.npz", "--out", "s")
    assert "--model" in refused(2, "plan", "s", "50% macs", "--out", "p")
    words = ("--model", made / "dense", "--compensate", "none")
    done("plan", "s", "50% macs", *words, "--out", "p")
    words = ("sweep", "s", "70% macs", "50% macs", "20% macs", *words, "--val", made / "test.npz")
    found = done(*words, "--json").json
    arms = [line["arm"] for line in found["lines"]]
    assert arms.count("channels/taylor") == arms.count("random") == 3
    assert arms[-1] == "dense"
    line = refused(2, "plan", "s", "50% macs", "--model", "prunus:tinycnn", "--out", "q")
    assert "prunus:tinycnn" in line


def test_compare_puts_random_beside_the_plan(made, here):
    words = ("compare", made / "dense", made / "cut", made / "test.npz", "--controls", 2, "--fit", made / "train.npz")
    found = done(*words, "--json").json
    assert sum(row["control"] for row in found["results"] if row["metric"] == "accuracy") == 2
    assert any("random controls" in line for line in found["verdicts"])
    assert "no control was run" in done(*words[:4], "--controls", 0).out


def test_compare_recovers_all_arms_alike(made, here):
    words = ("compare", made / "dense", made / "cut", made / "test.npz", "--controls", 1, "--fit", made / "train.npz")
    found = done(*words, "--how", "bn_stats,finetune", "--steps", 2, "--json").json
    assert {row["what"] for row in found["results"]} == {"dense", "channels/l1", "random, same counts"}
    found = done(*words, "--how", "finetune", "--steps", 2, "--scratch", 1, "--json").json
    assert {row["what"] for row in found["results"]} >= {"channels/l1", "scratch-E", "scratch-B"}
    assert "--how" in refused(2, *words, "--scratch", 1)
    assert "--fit" in refused(2, *words[:6], "--how", "finetune")


def test_gates_end_with_code_four_after_the_numbers(made):
    words = ("measure", made / "dense", made / "test.npz")
    assert "holds: accuracy >= 5" in done(*words, "--require", "accuracy >= 5").out
    found = prunus(*words, "--require", "accuracy > 100", "--json")
    assert found.code == 4
    assert json.loads(found.out)["results"]
    assert found.err.startswith("error: FAILS: accuracy > 100")
    assert "--dense" in refused(2, *words, "--require", "accuracy >= dense - 0.5")


def test_a_budget_out_of_reach_names_the_nearest(made, here):
    line = refused(3, "plan", made / "dense", "l1", "1% macs", "--out", "p")
    assert "nearest reachable" in line


def test_budgets_of_a_model_that_is_cut_count_against_the_dense_one(made, here):
    done("apply", made / "cut", made / "dense", "--out", "half")
    found = done("plan", "half", "l1", "30% macs", "--out", "p", "--json")
    assert "counts against the dense model (83,264 macs)" in found.err
    assert found.json["planned"]["macs"] <= 0.31 * 83264
    done("apply", "p", "half", "--out", "smaller")
    assert "then" in done("measure", "smaller", "--metrics", "params").out
    assert "cut already" in refused(2, "apply", made / "cut", "half", "--out", "again")


def test_models_and_rows_that_do_not_go_together_are_refused_in_words(made, here):
    words = ("signals", made / "train.npz", "--model", "prunus:resnet8", "--need", "probs", "--out", "s")
    line = refused(2, *words)
    assert "prunus:resnet8 can't take rows of train.npz, which are [1, 1, 8, 8]" in line


@pytest.mark.parametrize("verb", ["recover", "measure", "compare", "plan", "score", "check"])
def test_dry_run_of_verbs_that_pass_over_rows(made, here, verb):
    train, test, dense = made / "train.npz", made / "test.npz", made / "dense"
    words = {
        "recover": (dense, "--data", train, "--epochs", 4),
        "measure": (dense, test),
        "compare": (dense, made / "cut", test),
        "plan": (dense, "taylor", "50% macs", "--data", train),
        "score": (train, "el2n", "--model", dense),
        "check": (train,),
    }[verb]
    found = done(verb, *words, "--dry-run", "--json").json
    assert set(found) == {"rows", "timed_rows", "rows_per_second", "hours", "ram", "disk"}
    assert list(here.iterdir()) == []


def test_budgets_in_milliseconds_from_the_shell(made, here):
    refused(3, "plan", made / "dense", "l1", "0.000001 ms at batch 2", "--data", made / "train.npz", "--out", "p")
    found = done(
        "plan",
        made / "dense",
        "l1",
        "100% ms at batch 2, float64",
        "--data",
        made / "train.npz",
        "--out",
        "q",
        "--json",
    ).json
    assert found["budget"] == "100% ms at batch 2, 1 thread, float64"
    assert found["planned"]["ms"] == found["dense"]["ms"] > 0


def test_a_cut_model_becomes_an_onnx_file_that_computes_the_same(made, here):
    pytest.importorskip("onnxruntime")
    done("apply", made / "cut", made / "dense", "--out", "half")
    found = done("export", "half", "--as", "onnx", "--out", "half.onnx", "--json").json
    assert found["difference"] < 1e-3
    assert (here / "half.onnx").stat().st_size == found["bytes"]
    assert "half.onnx" in refused(2, "export", "half", "--as", "onnx", "--out", "half.onnx")
    assert ".onnx" in refused(2, "export", "half", "--as", "onnx", "--out", "half.bin")
    assert "no plan" in refused(2, "export", "half")
