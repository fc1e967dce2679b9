"""Training on what is kept, from the shell: loss weights, a teacher that saw every row, images packed several to one."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from cli.shell import done, refused


def test_weights_go_from_the_plan_into_the_export_and_into_training(made, here):
    words = (
        "plan",
        made / "score",
        "10% rows",
        "--select",
        "craig",
        "--signals",
        made / "sig",
        "--data",
        made / "train.npz",
    )
    told = done(*words, "--out", "weighed").out
    assert "weights" in told
    done("export", "weighed", "--as", "csv", "--out", "kept.csv")
    weights = [float(row["prunus_weight"]) for row in csv.DictReader((here / "kept.csv").open())]
    assert len(weights) == 24 and np.mean(weights) == pytest.approx(1, rel=1e-5) and len(set(weights)) > 1
    done("apply", "weighed", made / "train.npz", "--out", "kept.npz")
    assert sorted(np.load("kept.npz")["prunus_weight"].tolist()) == pytest.approx(sorted(weights), rel=1e-6)
    train = ("recover", made / "dense", "--how", "finetune", "--steps", 2, "--seed", 3)
    by_plan = done(*train, "--data", made / "train.npz", "--plan", "weighed", "--out", "a", "--json").json["report"]
    by_file = done(*train, "--data", "kept.npz", "--out", "b", "--json").json["report"]
    assert by_plan["finetune"]["loss"] == by_file["finetune"]["loss"]
    done(*words, "--unweighted", "--out", "plain")
    assert "weights" not in done("export", "plain", "--as", "csv", "--out", "plain.csv").out
    assert "prunus_weight" not in (here / "plain.csv").read_text("utf-8")
    assert "--unweighted does not belong" in refused(
        2, "plan", made / "dense", "l1", "50% macs", "--unweighted", "--out", "x"
    )


def test_a_teacher_is_listened_to_by_the_share_that_a_plan_keeps(made, here):
    words = ("recover", "prunus:tinycnn", "--plan", made / "rows", "--data", made / "train.npz", "--how", "distill")
    words = (*words, "--teacher", made / "dense", "--steps", 2, "--json")
    by_plan, by_hand = (
        done(*words, *more, "--out", out).json["report"]["distill"]["loss"]
        for out, more in (("a", ()), ("b", ("--alpha", 1 - 0.3 / 2)))
    )
    assert by_plan == pytest.approx(by_hand, rel=1e-6)
    assert by_plan != done(*words, "--kept", 1.0, "--out", "c").json["report"]["distill"]["loss"]


def test_kept_images_are_packed(made, here):
    words = ("recover", "prunus:tinycnn", "--plan", made / "rows", "--data", made / "train.npz", "--how", "combine")
    found = done(*words, "--factor", 2, "--epochs", 2, "--batch", 8, "--out", "packed", "--json").json
    assert found["rows"] == 72 and 2 * 18 <= found["report"]["combine"]["samples"] <= 2 * 28
    assert "factor must be 1 to 8" in refused(2, *words, "--factor", 9, "--out", "x")
