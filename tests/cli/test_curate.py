"""Plans over rows side by side from the shell."""

from __future__ import annotations

import numpy as np

from cli.shell import done, refused


def test_two_plans_are_compared_and_written(made, here):
    train, rows = made / "train.npz", made / "rows"
    done("plan", made / "score", "10% rows", "--select", "k_center", "--signals", made / "sig", "--out", "spread")
    words = ("compare", rows, "spread", train, "--signals", made / "sig", "--score", made / "score", "--controls", 1)
    found = done(*words, "--clusters", 6, "--json").json
    assert (found["rows"], found["of"]) == (24, 240)
    assert set(found["metrics"]["evenness"]) == {"rows", "spread", "random", "random_balanced"}
    assert found["notes"][0].startswith("rows keeps 72 rows; 24 of them") and found["verdicts"] == []
    told = done(*words, "--out", "report.html")
    assert "mean rank of the score" in told.out and "written  report.html" in told.out
    assert "data:image/png" in (here / "report.html").read_text("utf-8")
    assert "there already" in refused(2, *words, "--out", "report.html")
    done(*words, "--out", "report.md", "--overwrite")
    assert (here / "report.md").read_text("utf-8").startswith("# rows and spread")


def test_an_encoder_embeds_rows_and_reference(made, here):
    held = here / "val.npz"
    np.savez(held, **dict(np.load(made / "test.npz")))
    words = ("compare", made / "rows", made / "train.npz", "--reference", held, "--encoder", made / "dense")
    found = done(*words, "--controls", 2, "--json").json
    assert 0 < found["metrics"]["knn_accuracy"]["rows"] <= 1
    assert {line["against"] for line in found["verdicts"]} == {"random", "random_balanced"}
    assert "embedding" in found["notes"][-1]
    assert done(*words, "--dry-run", "--json").json["rows"] >= 240


def test_flags_of_the_other_kind_are_refused(made, here):
    train, rows = made / "train.npz", made / "rows"
    assert "--encoder belongs to plans over rows" in refused(
        2, "compare", made / "dense", made / "cut", made / "test.npz", "--encoder", "x"
    )
    assert "--how belongs to models" in refused(2, "compare", rows, train, "--how", "finetune")
    assert "give one of them" in refused(
        2, "compare", rows, train, "--encoder", made / "dense", "--signals", made / "sig"
    )
    assert "embeddings of one encoder" in refused(
        2, "compare", rows, train, "--signals", made / "sig", "--reference", made / "test.npz"
    )
    assert ".html, .md, .txt" in refused(2, "compare", rows, train, "--out", "x.pdf")
    assert "clusterz" in refused(2, "compare", rows, train, "--clusterz", 3)
    assert "measures a plan over rows" in refused(2, "measure", made / "dense", "--metrics", "curation")
