"""The engine: the same results however it runs, nothing computed twice, failures that say what and leave the rest."""

from __future__ import annotations

import copy
import errno
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from prunus.core import files
from prunus.core.environment import environment
from prunus.core.errors import BadInput, BudgetUnreachable, PrunusError, ResourceError, StageFailed
from prunus.core.lock import RunLock
from prunus.core.results import Results
from prunus.core.store import Store
from prunus.recipe import parse
from prunus.run import Graph, Node, RunReport, recipe_run, run_recipe
from prunus.run.folder import used_keys
from prunus.run.progress import RunProgress
from prunus.run.resolve import resolve
from prunus.run.worker import run_job
from run import tiny_stages

TABLE = "run.tiny_stages:STAGES"


def run(
    runs: Path, *overrides: str, jobs: int = 0, stages: str = TABLE, raw: dict[str, Any] | None = None, **options: Any
) -> RunReport:
    recipe = parse(copy.deepcopy(raw or tiny_stages.RECIPE), overrides)
    graph = resolve(recipe, tiny_stages.facts)
    quiet = RunProgress({}, 1, Console(file=StringIO()))
    quiet.finished = lambda *_: None  # type: ignore[method-assign]
    return run_recipe(recipe, graph=graph, stages=stages, runs=runs, jobs=jobs, progress=quiet, **options)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync guards against power cuts, which no test makes; it is most of the time of these small runs."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def results(folder: Path) -> dict[str, bytes]:
    """Plans and numbers of a run folder; what they cost differs from run to run."""
    found = {}
    for plan in sorted((folder / "arms").glob("*/*/*/plan")):
        for name in ("plan.json", "plan.safetensors"):
            found[f"{plan.relative_to(folder)}/{name}"] = (plan / name).read_bytes()
    for path in sorted((folder / "metrics").glob("*.jsonl")):
        rows = files.read_json_lines(path)
        found[path.name] = json.dumps([{k: v for k, v in row.items() if k != "cost"} for row in rows]).encode()
    return found | {"report": (folder / "report.html").read_bytes()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an undisturbed run gives."""
    return results(run(tmp_path_factory.mktemp("whole")).folder)


def test_processes_do_not_change_results(tmp_path: Path, whole: dict[str, bytes]) -> None:
    report = run(tmp_path, jobs=2)
    assert results(report.folder) == whole
    assert len([name for name in whole if name.endswith("plan.json")]) == 8
    assert {"arms", "metrics", "logs", "env.json", "recipe.json", "stages.json", "report.html"} <= {
        path.name for path in report.folder.iterdir()
    }
    assert not (report.folder / ".lock").exists()


def test_again_computes_nothing(tmp_path: Path, whole: dict[str, bytes]) -> None:
    first = run(tmp_path)
    again = run(tmp_path)
    assert sum(first.made.values()) == again.reused == 37
    assert again.made == {}
    assert results(again.folder) == whole


def test_new_budget_costs_only_its_own(tmp_path: Path) -> None:
    run(tmp_path)
    more = run(tmp_path, 'arms.0.prune.budget=["30% rows", "50% rows", "70% rows"]')
    assert more.made == {"plan": 4, "train": 4, "measure": 4}
    assert len(list(tmp_path.glob("tiny-*"))) == 2


def test_rows_carry_their_place_and_cost(tmp_path: Path) -> None:
    rows = run(tmp_path).rows
    assert {(r["what"], r["budget"], r["control"]) for r in rows} == {
        ("dense", "", False),
        ("loss", "30% rows", False),
        ("loss", "50% rows", False),
        ("random", "30% rows", True),
        ("random", "50% rows", True),
    }
    assert {r["seed"] for r in rows} == {0, 1}
    loss = next(r for r in rows if r["what"] == "loss")
    read = Results.read(sorted(tmp_path.glob("tiny-*/metrics/*.jsonl")))
    assert sorted(row.value for row in read.rows) == sorted(r["value"] for r in rows)
    assert loss["method"] == "rows/loss"
    assert {"signals_cpu_s", "selection_cpu_s", "training_cpu_s", "samples"} == loss["cost"].keys()
    assert loss["cost"]["samples"] == 50 * 12  # passes over 30 % of 40 rows


def test_new_version_of_a_stage(tmp_path: Path) -> None:
    run(tmp_path)
    report = run(tmp_path, stages="run.tiny_stages:NEXT")
    assert report.made == {"plan": 8, "train": 8, "measure": 8}


def test_damaged_entry_is_told_and_made_again(tmp_path: Path, whole: dict[str, bytes]) -> None:
    folder = run(tmp_path).folder
    plan = next((folder / "arms" / "loss" / "30pct-rows" / "seed0" / "plan").resolve().glob("plan.safetensors"))
    plan.write_bytes(plan.read_bytes()[:-1])
    report = run(tmp_path)
    assert len(report.broken) == 1
    assert "plan of loss at 30% rows, seed 0" in report.broken[0]
    assert "made again" in report.broken[0]
    assert report.made == {"plan": 1}  # what was made from it is there already
    assert results(report.folder) == whole


def test_flipped_bit_is_found(tmp_path: Path, whole: dict[str, bytes]) -> None:
    folder = run(tmp_path).folder
    model = (folder / "arms" / "dense" / "all" / "seed0" / "model").resolve() / "model.safetensors"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    assert run(tmp_path).made == {"train": 1}
    assert results(folder) == whole


@pytest.mark.parametrize("jobs", [0, 1])
@pytest.mark.parametrize(
    ("trap", "kind", "code", "message"),
    [
        (
            "plan:budget",
            BudgetUnreachable,
            3,
            r"plan of loss at 30% rows.* failed: 30% rows can't be met; nearest.*2 rows",
        ),
        ("train:error", StageFailed, 1, r"training of dense.* failed: RuntimeError: a bug in the stage .*run again"),
        ("data:memory", ResourceError, 5, "data main failed: out of memory"),
    ],
)
def test_failed_stage(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: dict[str, bytes],
    jobs: int,
    trap: str,
    kind: type[PrunusError],
    code: int,
    message: str,
) -> None:
    monkeypatch.setenv("TINY_TRAP", trap)
    with pytest.raises(kind, match=message) as caught:
        run(tmp_path, jobs=jobs)
    assert caught.value.exit_code == code
    monkeypatch.delenv("TINY_TRAP")
    assert results(run(tmp_path).folder) == whole


def test_dead_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, bytes]) -> None:
    monkeypatch.setenv("TINY_TRAP", "measure:die")
    with pytest.raises(
        ResourceError, match=r"measuring dense.* killed by signal 9 .*out of memory\?.*worker-0\.log"
    ) as e:
        run(tmp_path, jobs=1)
    assert e.value.exit_code == 5
    monkeypatch.delenv("TINY_TRAP")
    assert results(run(tmp_path).folder) == whole


def test_noise_of_stages_goes_to_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_TRAP", "data:print")
    folder = run(tmp_path, jobs=1).folder
    assert "noise on standard output" in (folder / "logs" / "worker-0.log").read_text()


def test_children_have_one_thread(tmp_path: Path) -> None:
    graph = Graph()
    graph.links["threads"] = graph.add(Node("threads"))
    recipe = parse(copy.deepcopy(tiny_stages.RECIPE))
    report = run_recipe(recipe, graph=graph, stages="run.tiny_stages:THREADS", runs=tmp_path, jobs=1)
    assert files.read_json(report.folder / "arms" / "threads" / "env.json") == {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }


def test_changed_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, bytes]) -> None:
    run(tmp_path)
    now = environment(threads=1)
    new = {**now, "packages": {**now["packages"], "torch": "99.0"}}
    monkeypatch.setattr(recipe_run, "environment", lambda threads: new)
    with pytest.raises(BadInput, match=r"another environment \(torch .* -> 99\.0\).*--accept-env"):
        run(tmp_path)
    report = run(tmp_path, accept_env=True)
    assert report.made == {"train": 10, "measure": 10}  # only what depends on it
    written = files.read_json(report.folder / "env.json")
    assert written["packages"]["torch"] == "99.0"
    assert written["earlier"][0]["packages"]["torch"] == now["packages"]["torch"]
    assert results(report.folder) == whole


def test_two_at_once(tmp_path: Path) -> None:
    folder = run(tmp_path).folder
    with RunLock(folder), pytest.raises(ResourceError, match=f"in use by process {os.getpid()}"):
        run(tmp_path)


def test_hours_memory_and_disk_are_refused_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dear = "run.tiny_stages:DEAR"
    with pytest.raises(ResourceError, match=r"about 5\.0 h, more than --max-hours 4; cheaper: limit fit to 10 rows"):
        run(tmp_path, jobs=2, stages=dear, max_hours=4)
    guess = run(tmp_path, jobs=2, stages=dear, dry_run=True).estimate
    assert (guess.hours, guess.ram, guess.disk) == (5.0, 2, 10_000)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(recipe_run, "memory_free", lambda: 0)
    with pytest.raises(ResourceError, match="in memory"):
        run(tmp_path, stages=dear)
    monkeypatch.setattr(files, "free_bytes", lambda folder: 10)
    with pytest.raises(ResourceError, match=r"write about 10 kB .*10 B are free"):
        run(tmp_path, stages=dear)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own of 1 MB; only root can make one."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("can't mount a small disk here; the patched test below stands in for it")
    yield place
    subprocess.run(["umount", place], check=False)


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount command")
@pytest.mark.parametrize("jobs", [0, 2])
def test_real_full_disk(small_disk: Path, whole: dict[str, bytes], jobs: int) -> None:
    filler = small_disk / "filler"
    for spare in (8, 40, 80):  # kB left when the run begins
        filler.write_bytes(b"\0" * (1024 - spare - sum(p.stat().st_blocks // 2 for p in small_disk.rglob("*"))) * 1024)
        with pytest.raises(ResourceError, match=r"disk full|No space"):
            run(small_disk / "runs", jobs=jobs)
        filler.unlink()
    assert results(run(small_disk / "runs").folder) == whole


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount command")
def test_real_read_only_disk(small_disk: Path, whole: dict[str, bytes]) -> None:
    run(small_disk / "runs")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(ResourceError, match=r"can't write .*\.lock.*Read-only.*make the folder writable"):
        run(small_disk / "runs")
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert results(run(small_disk / "runs").folder) == whole


@pytest.mark.parametrize("step", range(1, 130, 16))
def test_disk_full_at_any_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, bytes], step: int
) -> None:
    """Simulated: the `step`-th fsync finds the disk full."""
    count = 0

    def fsync(handle: int) -> None:
        nonlocal count
        count += 1
        if count >= step:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ResourceError, match="disk full"):
        run(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    assert results(run(tmp_path).folder) == whole


def test_gc_spares_what_run_folders_use(tmp_path: Path) -> None:
    report = run(tmp_path)
    store = Store(tmp_path / ".store")
    assert store.gc(used_keys(tmp_path), unused_for=0) == []
    shutil.rmtree(report.folder)
    assert len(store.gc(used_keys(tmp_path), unused_for=0)) == 37


def test_progress_tells_the_time_left() -> None:
    out = StringIO()
    bar = RunProgress({"train": 4, "plan": 1}, 2, Console(file=out, width=200), hours={"plan": 0.001})
    assert bar.eta() is None
    with bar:
        bar.finished("train", "training of x", 10.0)
        assert bar.eta() == pytest.approx((3 * 10 + 3.6) / 2)
        bar._last -= 60
        bar.finished("train", "training of y", 10.0)
    assert out.getvalue() == "2 of 5 stages done, about 12 s left: training of y\n"


def test_what_a_process_does_once_is_no_cost_of_a_stage(tmp_path: Path) -> None:
    job = {"stage": "threads", "params": {}, "inputs": {}, "parts": {}, "store": str(tmp_path)}
    begun = time.perf_counter()
    made = run_job({**job, "stages": "run.tiny_stages:WARM", "key": "0" * 32})
    assert made.cost["wall_s"] < 0.2 < time.perf_counter() - begun  # warming up takes 0.2 s


def test_a_teacher_is_trained_once_and_its_cost_is_told_apart(tmp_path: Path) -> None:
    taught = {"teacher": {"full": {}}, "run": {"name": "tiny", "seeds": [0]}}
    arms = [{**tiny_stages.RECIPE["arms"][0], "teacher": ["none", "full"], "controls": []}]
    report = run(tmp_path, raw={**tiny_stages.RECIPE, **taught, "arms": arms})
    assert report.made["train"] == 2 + 2 * 2  # dense of seeds 0 and 1; two budgets, taught or not
    costs = {(row["what"], row["budget"]): row["cost"] for row in report.rows}
    plain, student = costs["loss", "30% rows"], costs["loss, taught by full", "30% rows"]
    assert student["teacher_cpu_s"] > 0 and "teacher_cpu_s" not in plain
    assert student["samples"] == plain["samples"]
