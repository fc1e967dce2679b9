"""Rows from the shell: signals by three doors, scores, plans, files that other programs read, sweeps."""

from __future__ import annotations

import numpy as np
import pytest

from cli.shell import done, prunus, refused


def test_check_tells_what_is_wrong_with_rows(made):
    assert "no problem found" in done("check", made / "train.npz").out
    found = done("check", made / "train.npz", "--against", made / "train.npz", "--json").json
    assert found["rows"] == 240
    assert len(found["leaks"]) == 240


def test_check_labels_writes_the_rows_and_why(made, here):
    words = ("check", "wrong.npz", "--labels", "--from", "pixels.npz")
    rows = dict(np.load(made / "train.npz"))
    np.savez("pixels.npz", id=[f"wrong.npz:{row}" for row in range(240)], embedding=rows["x"].reshape(240, 64))
    rows["y"][:6] = (rows["y"][:6] + 3) % 10
    np.savez("wrong.npz", **rows)
    found = done(*words, "--out", "issues.csv", "--plan", "clean", "--json").json
    ids = [issue["prunus_id"] for issue in found["issues"]]
    assert len({f"wrong.npz:{row}" for row in range(6)} & set(ids)) >= 4 and len(ids) < 15
    lines = (here / "issues.csv").read_text("utf-8").splitlines()
    assert lines[0] == "prunus_id,given,suggested,score,reason" and len(lines) == len(ids) + 1
    dropped = done("export", "clean", "--which", "dropped", "--as", "csv", "--out", "dropped.csv")
    assert dropped.code == 0 and "looks like" in (here / "dropped.csv").read_text("utf-8")
    done("score", "wrong.npz", "random", "--out", "r")
    done("plan", "r", "50% rows", "--ban", "issues.csv", "--out", "p")
    assert not set(ids) & set(done("export", "p").out.split())
    assert (
        "10.0 %"
        in done("check", "wrong.npz", "--labels", "--by", "el2n", "--share", 0.1, "--model", made / "dense").out
    )
    assert "share=0.1" in refused(2, "check", "wrong.npz", "--labels", "--by", "el2n", "--model", made / "dense")
    assert "one of --signals FOLDER" in refused(2, "check", "wrong.npz", "--labels")
    assert "go with --labels" in refused(2, "check", "wrong.npz", "--out", "x.csv")
    assert ".csv or .jsonl" in refused(2, *words, "--out", "x.xlsx")
    done(*words, "--out", "issues.jsonl")
    assert len((here / "issues.jsonl").read_text("utf-8").splitlines()) == len(ids)


def test_signals_writes_what_was_asked_for(made, here):
    found = done(
        "signals", made / "train.npz", "--model", made / "dense", "--need", "probs,hessian", "--out", "s", "--json"
    )
    assert found.json["signals"]["probs"] == [240, 10]
    assert found.json["modules"] == {"hessian": 3}
    assert done("score", made / "train.npz", "margin", "--signals", "s", "--out", "score").code == 0
    assert done("score", made / "dense", "obspa", "--signals", "s", "--out", "channels").code == 0


def test_signals_of_a_training_need_its_length(made, here):
    words = ("signals", made / "train.npz", "--model", "prunus:tinycnn", "--need", "el2n_sum,forgetting", "--out", "s")
    assert "--epochs" in refused(2, *words)
    found = done(*words, "--epochs", 1, "--json")
    assert set(found.json["signals"]) >= {"el2n_sum", "forgetting"}


def test_signals_over_windows_checkpoints_and_folds(made, here):
    words = ("signals", made / "train.npz", "--model", "prunus:tinycnn", "--epochs", 4, "--batch", 64)
    done(*words, "--need", "window_dual,early_windows", "--window", 3, "--early", 3, "--out", "w")
    assert done("score", made / "train.npz", "dual", "--signals", "w", "--out", "d", "--json").json["sense"] == "keep"
    done(*words, "--need", "held_out_probs,labels", "--folds", 2, "--out", "h")
    assert done("score", made / "train.npz", "label_quality", "--signals", "h", "--out", "q").code == 0
    done(*words, "--need", "gradient_variance,gradient_std", "--checkpoints", 3, "--out", "g")
    assert done("score", made / "train.npz", "vog", "--normalise", "class", "--signals", "g", "--out", "v").code == 0
    one = ("signals", made / "train.npz", "--model", made / "dense", "--need", "gradient_variance", "--out", "o")
    assert "add --epochs" in refused(2, *one)
    weights = next((made / "dense").glob("*.safetensors"))
    assert done(*one, "--checkpoints", weights, "--json").json["signals"]["gradient_variance"] == [240]


def test_score_prints_its_spread_and_its_sense(made, here):
    found = done("score", made / "train.npz", "el2n", "--signals", made / "sig", "--out", "s", "--json").json
    assert found["sense"] == "hard"
    assert found["groups"][0]["units"] == 240
    assert "large: a hard row" in done("score", made / "train.npz", "el2n", "--signals", made / "sig", "--out", "t").out


def test_score_from_a_table_of_predictions(made, here):
    ids = [f"train.npz:{row}" for row in range(240)]
    labels = np.load(made / "train.npz")["y"]
    probs = np.full((240, 10), 0.05)
    probs[:, 0] = 0.55
    np.savez("preds.npz", id=np.array(ids), label=labels, probs=probs)
    found = done("score", made / "train.npz", "el2n", "--from", "preds.npz", "--out", "s", "--json").json
    assert found["groups"][0]["units"] == 240


def test_score_from_a_model_measures_what_the_method_needs(made, here):
    found = done("score", made / "train.npz", "grand_last_layer", "--model", made / "dense", "--no-bias", "--out", "s")
    assert "rows/grand_last_layer" in found.out


def test_score_says_which_rows_have_no_signals(made, here):
    line = refused(2, "score", made / "test.npz", "el2n", "--signals", made / "sig", "--out", "s")
    assert "sig is not about the rows of test.npz" in line


def test_plan_echoes_both_sides_and_takes_flags_of_the_selector(made, here):
    found = done("plan", made / "score", "30%", "rows", "--strata", 10, "--out", "p")  # a budget needs no quotes
    assert "keeps 30 % of rows, drops 70 %" in found.out
    assert "keeps 72 of 240 rows, drops 168" in found.out
    assert done("export", "p").out.split() != done("export", made / "rows").out.split()


def test_plan_splits_over_classes_with_the_labels_of_the_data(made, here):
    words = ("plan", made / "score", "50% rows", "--allocate", "proportional", "--out", "p")
    assert "labels" in refused(2, *words)
    assert done(*words, "--data", made / "train.npz").code == 0


def test_plan_of_rows_in_one_go(made, here):
    found = done("plan", made / "train.npz", "el2n", "25% rows", "--model", made / "dense", "--out", "p", "--json").json
    assert (found["kept"], found["of"], found["method"]) == (60, 240, "rows/el2n")


def test_pinned_rows_stay_and_banned_rows_go(made, here):
    (here / "pin.txt").write_text("train.npz:0\n")
    (here / "ban.txt").write_text("train.npz:1\n")
    done("plan", made / "score", "10 rows", "--pin", "pin.txt", "--ban", "ban.txt", "--out", "p")
    kept = done("export", "p").out.split()
    assert "train.npz:0" in kept
    assert "train.npz:1" not in kept


def test_score_for_other_rows_is_refused_with_both_names(made, here):
    line = refused(2, "plan", made / "score", "30% rows", "--data", made / "test.npz", "--out", "p")
    assert "train.npz" in line and "test.npz" in line
    line = refused(2, "apply", made / "rows", made / "test.npz", "--out", "kept.npz")
    assert "train.npz" in line and "test.npz" in line


def test_apply_writes_the_rows_that_stay_under_their_ids(made, here):
    found = done("apply", made / "rows", made / "train.npz", "--out", "kept.npz", "--json").json
    assert (found["rows"], found["of"]) == (72, 240)
    ids = done("export", made / "rows").out.split()
    assert sorted(np.load("kept.npz")["prunus_id"].tolist()) == sorted(ids)
    assert "already" in refused(2, "apply", made / "rows", made / "train.npz", "--out", "kept.npz")
    assert done("check", "kept.npz", "--json").json["rows"] == 72


@pytest.mark.parametrize("form", ["txt", "csv", "parquet", "npy", "npz", "jsonl"])
def test_export_every_format(made, here, form):
    data = ("--data", made / "train.npz") if form == "npz" else ()
    found = done("export", made / "rows", "--as", form, *data, "--which", "dropped", "--out", f"out.{form}", "--json")
    assert found.json["rows"] == 168
    assert (here / f"out.{form}").stat().st_size > 0


def test_export_keeps_class_folders(made, here):
    from PIL import Image

    for label in ("cat", "dog"):
        (here / "images" / label).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (8, 8), number * 40).save(here / "images" / label / f"{number}.png")
    done("plan", "images", "random", "50% rows", "--out", "p")
    done("export", "p", "--as", "symlinks", "--data", "images", "--out", "fewer")
    assert len(list((here / "fewer").rglob("*.png"))) == 4
    assert {folder.name for folder in (here / "fewer").iterdir()} == {"cat", "dog"}


def test_sweep_needs_no_data_to_tell_what_is_planned(made):
    found = done("sweep", made / "score", "50%", "rows", "10%", "rows", "--json").json
    assert [(line["budget"], line["planned"]) for line in found["lines"]] == [("50% rows", 120), ("10% rows", 24)]
    assert found["knee"] is None


def test_sweep_trains_on_what_each_budget_keeps_beside_random(made):
    words = ("sweep", made / "score", "60% rows", "30% rows", "10% rows", "--fit", "prunus:tinycnn")
    words += ("--data", made / "train.npz", "--val", made / "test.npz", "--epochs", 1, "--batch", 120)
    found = done(*words, "--json").json
    assert [line["arm"] for line in found["lines"]].count("random") == 3
    assert found["lines"][-1]["arm"] == "all rows"
    assert all(0 <= line["val"] <= 1 for line in found["lines"])


def test_a_knee_is_not_chosen_on_test_rows(made):
    words = ("--fit", "prunus:tinycnn", "--data", made / "train.npz", "--test", made / "test.npz", "--epochs", 1)
    found = done("sweep", made / "score", "30% rows", *words, "--batch", 120)
    assert "no knee is named" in found.out


def test_dry_run_times_and_writes_nothing(made, here):
    words = ("signals", made / "train.npz", "--model", made / "dense", "--need", "probs", "--dry-run")
    found = done(*words, "--json").json
    assert found["rows"] == 240
    assert found["rows_per_second"] > 0 and found["ram"] > 0 and found["disk"] > 0
    assert list(here.iterdir()) == []
    line = refused_after_forecast(5, *words, "--max-hours", 0)
    assert "--max-hours 0" in line and "cheaper: " in line


def refused_after_forecast(code, *words):
    found = prunus(*words)
    assert found.code == code
    assert "rate" in found.out
    return found.err.splitlines()[-1]


def test_selectors_in_turn(made, here):
    done("signals", made / "train.npz", "--model", made / "dense", "--need", "embedding,probs", "--out", "s")
    words = ("plan", made / "score", "10% rows", "--signals", "s")
    turns = ("--select", "semdedup,ccs")
    found = done(*words, *turns, "--eps", "0.001", "--ccs-strata", 10, "--out", "p", "--json").json
    assert found["kept"] == 24 and "select/semdedup,ccs" in " ".join(found["reasons"])
    assert "did you mean" in refused(2, *words, "--select", "semdedup,cccs", "--out", "q")
    assert "semdedup_share" in refused(2, *words, *turns, "--semdedup-shar", "0.5", "--out", "q")


def test_budgets_over_clusters_and_by_recall_and_caps(made, here):
    words = ("plan", made / "score", "20% rows", "--select", "k_center")
    done("signals", made / "train.npz", "--model", made / "dense", "--need", "embedding,probs", "--out", "s")
    done("signals", f"{made / 'train.npz'}?role=val", "--model", made / "dense", "--need", "probs", "--out", "v")
    for number, more in enumerate((("--over", "clusters:4"), ("--max-ram", "40MB"), ())):
        extra = ("--allocate", "uniform") if more else ("--allocate", "by_recall", "--val", "v")
        known = ("--signals", "s", "--data", made / "train.npz")
        assert done(*words, *known, *extra, *more, "--out", f"p{number}", "--json").json["kept"] == 48
    line = refused(5, *words, "--signals", "s", "--max-ram", "1kB", "--out", "q")
    assert "k_center over 240 rows takes about" in line
    assert "name one" in refused(2, *words, "--signals", "s", "--over", "clusters", "--out", "q")


def test_rows_that_are_not_finite_are_quarantined(made, here):
    x = np.random.default_rng(0).standard_normal((240, 4))
    x[5], x[6, 0] = 0, np.nan
    ids = [f"train.npz:{row}" for row in range(240)]
    np.savez("e.npz", id=np.array(ids), embedding=x)
    words = ("score", made / "train.npz", "prototypes", "--from", "e.npz", "--out")
    assert "train.npz:6" in refused(2, *words, "a")
    assert done(*words, "a", "--quarantine").code == 0
    plan = ("plan", "a", "50% rows", "--select", "semdedup,top", "--signals", "e.npz", "--out")
    assert "train.npz:6" in refused(2, *plan, "p")
    found = done(*plan, "p", "--quarantine", "--json").json
    assert found["kept"] == 120 and any("quarantined" in reason for reason in found["reasons"])


def test_near_duplicates_are_named_with_what_stands_for_them(here):
    x = np.random.default_rng(0).standard_normal((40, 6))
    x[20:30] = x[:10] * 1.5
    np.savez("e.npz", id=np.array([f"row{row:02d}" for row in range(40)]), embedding=x)
    found = done("duplicates", "e.npz", "--eps", 0.001, "--out", "pairs.csv", "--keep", "easy", "--json").json
    assert {frozenset((p["prunus_id"], p["kept"])) for p in found["pairs"]} == {
        frozenset((f"row{row:02d}", f"row{row + 20}")) for row in range(10)
    }
    assert found["curve"][0] == {"eps": 0.0001, "kept": 30, "share": 0.75}
    assert (here / "pairs.csv").read_text("utf-8").splitlines()[0] == "prunus_id,kept,cosine"
    assert "10 at eps 0.001" in done("duplicates", "e.npz", "--eps", 0.001, "--rule", "greedy").out
    for words, what in (
        (("--rule", "greedy"), "name one, --eps"),
        (("--out", "x.csv"), "--eps"),
        (("--eps", 0.1, "--out", "x.txt"), "not as 'x.txt'"),
        (("--eps", 0.1, "--out", "pairs.csv"), "pairs.csv"),
        (("f.npz",), "one folder or table"),
    ):
        assert what in refused(2, "duplicates", "e.npz", *words)
