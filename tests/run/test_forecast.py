"""A dry run times short jobs and multiplies; a run that turns out too long stops and keeps what it made."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from prunus.core.environment import environment
from prunus.core.errors import ResourceError
from prunus.core.store import Store
from prunus.recipe import load, parse
from prunus.run import recipe_run, shorter
from prunus.run.engine import Work
from prunus.run.forecast import forecast
from prunus.run.recipe_run import run_recipe
from prunus.run.resolve import resolve
from run import tiny_stages

DIGITS = """
[run]
name = "forecast"
seeds = [0, 1]
[data.digits]
source = "sklearn:digits"
fit = { limit = 300 }
test = { share = 0.2 }
[model.mlp]
source = "prunus:tinycnn"
options = { channels = 1 }
[train.short]
epochs = 4
equal = "epochs"
batch = 8
[signals.main]
train = "short"
[[arms]]
controls = ["random"]
prune = { method = "el2n_sum", budget = ["50% rows", "20% rows"] }
"""
TRAIN = {"epochs": 10, "steps": None, "equal": "steps", "batch": 64, "dynamic": None}


@pytest.mark.parametrize(
    ("table", "rows", "steps", "times"),
    [
        (TRAIN, {"fit": 640, "kept": 64}, 20, 5.0),  # equal steps: those of all rows
        ({**TRAIN, "equal": "epochs"}, {"fit": 640, "kept": 64}, 10, 1.0),
        ({**TRAIN, "epochs": None, "steps": 30}, {"fit": 640, "kept": 64}, 20, 1.5),
    ],
)
def test_training(table: dict[str, object], rows: dict[str, int], steps: int, times: float) -> None:
    job = shorter.train(dict(table), rows)
    assert (job.params["steps"], job.times) == (steps, times)


def test_signals_recovery_and_measures() -> None:
    pass_ = {"train": None, "limit": None, "batch": 10, "epochs": None, "seeds": [0]}
    assert shorter.signals(pass_, {"fit": 1000}) == shorter.Shorter({**pass_, "limit": 200}, 5.0)
    trained = {**pass_, "train": TRAIN, "seeds": [0, 1]}
    assert shorter.signals(trained, {"fit": 2560}).times == 2 * 10 * 2560 / 1280
    recovery = {"limit": 500, "batch": 10, "epochs": 2, "steps": None}
    assert shorter.recover(recovery, {"fit": 1000}).times == 2 * 500 / 200
    text = {"metrics": ["perplexity", "params"], "role": "test", "limit": None, "batch": 1, "tokens": 100, "window": 5}
    job = shorter.measure(text, {"test": 50})
    assert (job.params["metrics"], job.params["tokens"], job.times) == (["perplexity"], 10, 10.0)


def test_forecast_counts_every_kind(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(DIGITS)
    graph = resolve(load(tmp_path / "r.toml"))
    work = Work.plan(graph, recipe_run.STAGES, Store(tmp_path / "store"), environment(threads=1))
    guess, kinds = forecast(work, jobs=2)
    found: dict[str, list[int]] = {}
    for kind in kinds:
        found.setdefault(kind.stage, []).append(kind.count)
    # two seeds; dense (all rows), and at each budget the method and its control: three lengths of training
    assert {stage: sorted(counts) for stage, counts in found.items()} == {
        "train": [2, 4, 4],
        "signals": [1],
        "measure": [10],
    }
    lengths = sorted(kind.seconds for kind in kinds if kind.stage == "train")
    assert guess.hours == pytest.approx(sum(kind.count * kind.seconds for kind in kinds) / 7200)
    assert lengths[0] < lengths[-1]
    assert guess.ram > 0
    assert guess.disk > 0
    assert not any(work.store.get(key) for key in work.keys.values())  # nothing is stored
    assert {path.name for path in tmp_path.iterdir()} <= {"r.toml", "store"}


def test_a_run_that_turns_out_too_long_stops_and_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_PAUSE", "0.2")
    recipe = parse(copy.deepcopy(tiny_stages.RECIPE), [])
    given = {"stages": "run.tiny_stages:STAGES", "runs": tmp_path, "graph": resolve(recipe, tiny_stages.facts)}
    with pytest.raises(ResourceError, match=r"going by the \d+ stages done.*what is done is kept"):
        run_recipe(recipe, max_hours=0.3 / 3600, jobs=0, **given)
    monkeypatch.setenv("TINY_PAUSE", "0")
    again = run_recipe(recipe, jobs=0, **given)
    assert again.reused
    assert again.rows
