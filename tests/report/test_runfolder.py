"""A run folder as `prunus run` leaves it becomes a report in every form."""

from __future__ import annotations

import pytest

from prunus.core import files
from prunus.core.errors import BadInput, UnknownName
from prunus.core.results import Results
from prunus.report import runfolder
from report.reports import data_results, model_report, rows_plan


@pytest.fixture
def folder(tmp_path):
    results = data_results()
    for what in dict.fromkeys(row.what for row in results):
        results.where(what=what).write(tmp_path / "metrics" / f"{what.replace(' + ', '+')}.jsonl")
    files.write_json(
        tmp_path / "env.json", {"python": "3.11.7", "packages": {"torch": "2.14.1", "numpy": "2.4.6"}, "earlier": [{}]}
    )
    plan, _, _ = rows_plan()
    plan.save(tmp_path / "arms" / "el2n+ccs" / "30pct-rows" / "seed0" / "plan")
    files.write_json(
        tmp_path / "arms" / "el2n+ccs" / "30pct-rows" / "seed0" / "model" / "applied.json",
        {"schema": 1, "got": {"rows": 600}},
    )
    return tmp_path


def test_run_folder_becomes_a_report(folder):
    data = runfolder.read(folder, title="A run", command="prunus run x.toml")
    assert len(data.results) == len(data_results())
    (plan,) = data.plans
    assert (plan.name, plan.got) == ("el2n + ccs, 30% rows", {"rows": 600})
    assert data.results.environment["packages"] == "numpy 2.4.6, torch 2.14.1"
    assert [curve.metric for curve in data.curves] == ["accuracy"]
    words = {(v.what, v.budget, v.against): v.word for v in data.verdicts}
    assert len(words) == 2 * 3 * 2
    assert words["el2n + ccs", "10% rows", "random-balanced"] == "better"
    assert words["forgetting", "10% rows", "rs2"] == "worse"


def test_every_form_is_written(folder, tmp_path):
    data = runfolder.read(folder, title="A run")
    made = runfolder.write(data, tmp_path / "out", ("html", "markdown", "text"))
    assert [path.name for path in made] == ["report.html", "report.md", "report.txt"]
    assert all("A run" in path.read_text("utf-8") for path in made)
    with pytest.raises(UnknownName, match="html"):
        runfolder.write(data, tmp_path, ("htlm",))


def test_the_stage_of_a_run_writes_what_the_recipe_asks(folder, tmp_path):
    runfolder.stage({"run": folder}, {"name": "digits", "title": "", "forms": ["text"]}, tmp_path / "out")
    assert (tmp_path / "out" / "report.txt").read_text("utf-8").startswith("digits\n======\n")


def test_empty_folder_says_what_to_do(tmp_path):
    with pytest.raises(BadInput, match="run the recipe first"):
        runfolder.read(tmp_path)


def test_rows_survive_the_round_trip(folder):
    again = Results.read(sorted((folder / "metrics").glob("*.jsonl")))
    assert sorted(again.rows, key=repr) == sorted(data_results().rows, key=repr)
    assert str(model_report().results).count("\n") > 5
