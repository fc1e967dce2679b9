"""`prunus run`, `demo` and `report` on the smallest recipe that has a control."""

from __future__ import annotations

import pytest

from cli.shell import done, refused

RECIPE = """
[run]
name = "tiny"

[data]
source = "sklearn:digits"
fit = { limit = 120 }
test = { share = 0.25, limit = 60 }

[model]
source = "prunus:tinycnn"

[train]
epochs = 1
batch = 60

[[arms]]
train = "main"
prune = { method = "random_balanced", budget = "50% rows" }
controls = ["random"]
"""


@pytest.fixture
def recipe(here):
    (here / "tiny.toml").write_text(RECIPE)
    return "tiny.toml"


def test_run_resumes_and_reports(recipe, here):
    found = done("run", recipe, "--jobs", 0, "--json")
    assert found.json["made"]
    assert any(row["control"] for row in found.json["rows"])
    again = done("run", recipe, "--jobs", 0)
    assert again.out.splitlines()[-1].startswith("report: ")
    assert len(again.out.splitlines()) <= 12
    folder = found.json["run"]
    assert done("report", folder, "--as", "text").out.startswith("tiny")
    made = done("report", folder, "--as", "html,markdown", "--out", "r", "--json").json["files"]
    assert [(here / name).stat().st_size > 0 for name in made] == [True, True]


def test_dry_run_of_a_recipe_computes_nothing(recipe, here):
    found = done("run", recipe, "run.seeds=[0,1]", "--dry-run", "--json").json
    assert found["reused"] == 0
    assert not (here / "runs").exists()


def test_unknown_recipe_key_names_the_nearest(recipe, here):
    assert "did you mean epochs" in refused(2, "run", recipe, "train.epoch=3", "--jobs", 0)
    (here / "typo.toml").write_text(RECIPE.replace("batch = 60", "batchs = 60"))
    assert "did you mean batch" in refused(2, "run", "typo.toml")
    assert "no recipe" in refused(2, "run", "nowhere.toml")


def test_code_in_a_recipe_needs_leave(recipe, here):
    assert "--allow-code" in refused(2, "run", recipe, "model.source=mine:net")


def test_the_demo_ships_with_the_package(here):
    found = done("demo", "--dry-run", "--json").json
    assert "demo-" in found["folder"]
