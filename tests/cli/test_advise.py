"""`prunus advise` as a stranger meets it: an answer from measured tables, refusals in one line, --verify in a run folder."""

from __future__ import annotations

from pathlib import Path

from cli.shell import done, refused


def test_an_answer_names_figures_source_and_warning(made: Path):
    told = done(
        "advise", made / "train.npz", "10% rows", "--method", "el2n_sum", "--select", "top", "--equal", "steps"
    ).out
    assert "240 rows, 10 classes" in told and "keeps 10 %, 24 rows, 2 of a class; drops 90 %" in told
    assert "measured nearest to this:\n  " in told and "sklearn:digits with prunus:tinycnn: 1,051 rows" in told
    assert "warning: el2n_sum + top(keep=hardest) lost" in told
    assert "\nadvice: " in told


def test_the_budget_needs_no_quotes_and_json_says_the_same(made: Path):
    found = done("advise", made / "train.npz", "30%", "rows", "--json", "--noise", 0.2).json
    assert found["situation"]["kept"] == 72 and found["situation"]["noise"] == 0.2
    assert found["methods"] and found["control"] == "random_balanced"


def test_flags_of_the_selector_narrow_what_is_asked(made: Path):
    words = ("advise", made / "train.npz", "30% rows", "--noise", 0.2, "--method", "aum", "--json")
    every, one = done(*words).json["answer"], done(*words, "--hard-cut", 0.3).json["answer"]
    assert "aum + ccs(hard_cut=0.0)" in every and "aum + ccs(hard_cut=0.3)" in every
    assert "aum + ccs(hard_cut=0.0)" not in one and one.startswith("aum + ccs(hard_cut=0.3)")


def test_signals_at_hand_cost_nothing(made: Path):
    found = done(
        "advise", made / "train.npz", "30% rows", "--signals", made / "sig", "--have", "aum,seen", "--json"
    ).json
    cost = {method["name"]: (method["missing"], method["upfront"]) for method in found["methods"]}
    assert cost["k_center"][0] == cost["aum + ccs"][0] == [] and cost["k_center"][1] < 0.1  # selection alone
    assert cost["el2n_sum + d2"][0] == ["el2n_sum"]


def test_verify_tries_the_shortlist_on_the_rows_given(made: Path, here: Path):
    flags = ("--verify", "--model", "prunus:tinycnn?width=2", "--sample", 100, "--seeds", 2, "--epochs", 1, "--jobs", 0)
    told = done("advise", made / "train.npz", "30% rows", *flags, "--have", "embedding").out
    assert "verified: trained on 100 rows at most, judged on held-out rows of role val:" in told
    folder = here / told.rstrip().rpartition("run  ")[2]
    assert (folder / "report.html").is_file() and (folder / "recipe.json").is_file()


def test_refusals_say_what_to_write(made: Path):
    data = made / "train.npz"
    assert "prunus advise takes DATA BUDGET" in refused(2, "advise", data)
    assert "30% rows" in refused(2, "advise", data, "50% macs")
    assert "--model SPEC" in refused(2, "advise", data, "30% rows", "--verify")
    assert "did you mean el2n_sum" in refused(2, "advise", data, "30% rows", "--method", "el2n_som")
    assert "name the method too" in refused(2, "advise", data, "30% rows", "--select", "top")
    assert "no option of select/ccs named 'keep'" in refused(
        2, "advise", data, "30% rows", "--method", "aum", "--keep", "hardest"
    )
    assert "epochs or steps" in refused(2, "advise", data, "30% rows", "--equal", "time")
    assert "share of wrong labels" in refused(2, "advise", data, "30% rows", "--noise", 20)
