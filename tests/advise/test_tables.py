"""The measured tables: those that are shipped hold together, those of a run are what its folder says, files survive the round trip."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from advise.tables import TABLES, situation
from prunus.advise import collect, measured
from prunus.advise.advice import advise
from prunus.advise.asked import Asked
from prunus.advise.verify import Trial, data_table, recipe_of, run_trial
from prunus.core import files, registry
from prunus.core.chain import find_selector
from prunus.core.errors import BadInput, CorruptFile
from prunus.core.plan import Plan
from prunus.core.results import Results
from prunus.recipe import parse
from prunus.run import run_recipe

RECIPE: Mapping[str, Any] = {
    "run": {"name": "small", "seeds": [0, 1]},
    "data": {"noisy": {"source": "sklearn:digits", "label_noise": 0.3, "fit": {"limit": 100}, "test": {"share": 0.2, "limit": 40}}},
    "model": {"source": "prunus:tinycnn", "options": {"width": 2}},
    "train": {"once": {"epochs": 1, "equal": "epochs", "batch": 32}},
    "signals": {"train": "once", "seeds": [9]},
    "controls": {"rows": ["random", "random_balanced"]},
    "arms": [
        {"prune": {"method": "aum", "budget": ["50% rows", "20% rows"], "select": [{"name": "ccs", "hard_cut": 0.2}, "top"]}},
        {"prune": {"method": "random", "budget": ["50% rows", "20% rows"], "select": "k_center"}},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run: three methods and a control at two budgets, two seeds, a third of the labels wrong."""
    place = tmp_path_factory.mktemp("runs")
    return run_recipe(parse({**RECIPE}), runs=place, jobs=0).folder


def test_a_run_becomes_a_table(folder: Path) -> None:
    (table,) = collect.tables_of(folder)
    assert (table.run, table.data, table.model, table.equal, table.seeds) == (
        "small",
        "sklearn:digits",
        "prunus:tinycnn",
        "epochs",
        2,
    )
    assert (table.rows, table.classes, table.budgets, table.control) == (100, 10, (0.5, 0.2), "random_balanced")
    assert 0.15 < table.label_noise < 0.45
    arms = {arm.name: arm for arm in table.arms}
    assert set(arms) == {"aum + ccs(hard_cut=0.2)", "aum + top", "k_center", "random"}
    ccs = arms["aum + ccs(hard_cut=0.2)"]
    assert (ccs.method, ccs.select, ccs.select_options, ccs.needs) == ("aum", "ccs", {"hard_cut": 0.2}, ("aum", "seen"))
    assert (arms["k_center"].needs, arms["random"].needs) == (("embedding",), ())
    assert table.inputs == (1, 8, 8) and ccs.signals > arms["random"].signals == 0 and ccs.selection > 0


def test_a_run_that_is_not_complete_is_refused(folder: Path, tmp_path: Path) -> None:
    half = Path(shutil.copytree(folder, tmp_path / "half", symlinks=True))
    lines = (half / "metrics" / "k_center.jsonl").read_text().splitlines()
    left = [line for line in lines if not ('"20% rows"' in line and '"seed": 1' in line)]
    (half / "metrics" / "k_center.jsonl").write_text("\n".join(left))
    with pytest.raises(BadInput, match="lacks 1 of the results"):
        collect.tables_of(half)


def test_figures_are_those_of_the_run_folder(folder: Path) -> None:
    (table,) = collect.tables_of(folder)
    results = Results.read((folder / "metrics").glob("*.jsonl"))
    here, there = (
        results.values(what=what, budget="20% rows", metric="accuracy") for what in ("k_center", "random_balanced")
    )
    cell = next(arm for arm in table.arms if arm.name == "k_center").cells[1]
    assert cell is not None and cell.difference == pytest.approx(np.mean([here[seed] - there[seed] for seed in here]))
    rows = files.read_arrays(next((folder / "arms").glob("*/*/seed0/data/fit.safetensors")))
    kept = [Plan.load(path).keep() for path in sorted((folder / "arms" / "k_center").glob("20*/seed*/plan"))]
    wrong = [(rows["labels"] != rows["clean_labels"])[np.isin(rows["ids"], ids)].mean() for ids in kept]
    assert len(kept) == 2 and cell.wrong == pytest.approx(np.mean(wrong))
    assert cell.smallest is not None and 0 <= cell.smallest <= 1


def test_the_command_adds_a_recipe_and_replaces_its_own(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = measured.write(TABLES, tmp_path / "tables.json")
    for _ in range(2):
        assert collect.main([str(folder), "--out", str(out)]) == 0
    assert "1 tables of small" in capsys.readouterr().out
    found = measured.read(out)
    assert [table.run for table in found] == ["clean", "noisy", "small"]
    assert found[2].arms[0].name == collect.tables_of(folder)[0].arms[0].name
    assert advise(situation(100, 50, 0.3), tables=found).columns[0].table.run == "small"


def test_files_survive_the_round_trip_and_others_are_refused(tmp_path: Path) -> None:
    out = measured.write(TABLES, tmp_path / "tables.json")
    found, written = measured.read(out), out.read_bytes()
    assert [(table.run, [arm.name for arm in table.arms]) for table in found] == [
        (table.run, [arm.name for arm in table.arms]) for table in sorted(TABLES, key=lambda table: table.run)
    ]
    assert found[1].arms[0].cells[1] == TABLES[0].arms[0].cells[1]
    assert measured.write(found, out).read_bytes() == written
    files.write_json(out, {"schema": 2, "tables": []})
    with pytest.raises(BadInput, match="schema 2"):
        measured.read(out)
    files.write_json(out, {"schema": 1, "tables": [{"run": "x"}]})
    with pytest.raises(CorruptFile):
        measured.read(out)


def test_what_is_no_run_of_many_methods_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"recipe\.json"):
        collect.tables_of(tmp_path)


def test_the_shipped_tables_hold_together() -> None:
    tables = measured.read()
    assert {table.equal for table in tables} == {"steps", "epochs"}
    assert any(table.label_noise > 0.1 for table in tables) and any(table.label_noise == 0 for table in tables)
    for table in tables:
        assert table.seeds >= 5 and len(table.base) == len(table.budgets) and table.control == "random_balanced"
        assert {cell.word for arm in table.arms for cell in arm.cells if cell} <= {"better", "worse", "tie"}
        for arm in table.arms:
            assert len(arm.cells) == len(table.budgets)
            found = registry.find(arm.method, unit="rows", kind=("criterion", "dynamic"))
            found.check_options(dict(arm.method_options))
            if arm.select:
                find_selector(arm.select).check_options(dict(arm.select_options))


def test_the_shipped_tables_know_that_hard_rows_lose_when_few_stay_or_labels_are_wrong() -> None:
    for changed in ({"kept": 105, "noise": 0.0}, {"kept": 315, "noise": 0.2}):
        told = advise(situation(1051, **changed), asked=Asked("el2n_sum", "top"), equal="steps").warnings
        assert "el2n_sum + top(keep=hardest) lost" in told[0]


def test_the_trial_runs_shortlist_and_method_asked_for_beside_the_controls(tmp_path: Path) -> None:
    advice = advise(situation(1797, 540), tables=TABLES)
    trial = Trial(
        data_table("sklearn:digits", {"limit": 200}), {"source": "prunus:tinycnn", "options": {"width": 2}}, 120, 2, 1
    )
    recipe = recipe_of(advice, trial, Asked("el2n_sum", "top"))
    assert recipe.measure["main"].role == "val" and recipe.data["main"].fit.limit == 120
    done = run_trial(recipe, advice.control, runs=tmp_path, jobs=0)
    assert {line.what for line in done.lines} == {"aum + ccs(hard_cut=0.3)", "k_center", "el2n_sum + top"}
    assert {line.against for line in done.lines} == {"random_balanced"}
    assert "random_balanced" in str(done) and (done.folder / "report.html").is_file()


def test_a_trial_that_cannot_be_is_refused() -> None:
    advice = advise(situation(), tables=TABLES)
    with pytest.raises(BadInput, match="too small"):
        recipe_of(advice, Trial({"source": "sklearn:digits"}, {"source": "prunus:tinycnn"}, sample=10))
    with pytest.raises(BadInput, match="tokens=3"):
        data_table("x.txt", {"tokens": 3})
