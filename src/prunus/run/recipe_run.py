"""`prunus run`: a recipe, its folder, its lock, its graph, its tables, its report."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from prunus.core import files
from prunus.core.environment import environment, memory_free
from prunus.core.errors import ResourceError
from prunus.core.lock import RunLock
from prunus.core.store import Store
from prunus.recipe import Recipe
from prunus.run.engine import Maker, Work, counts
from prunus.run.folder import RunFolder, rows_of, samples_of
from prunus.run.forecast import NO_HOURS, Timed, forecast
from prunus.run.progress import RunProgress, duration
from prunus.run.resolve import resolve
from prunus.run.stage import Estimate, Graph, stage_table

STAGES = "prunus.run.stages:STAGES"
SPENT_ON = {"signals": "signals", "score": "selection", "plan": "selection", "train": "training", "recover": "recovery"}


@dataclass(frozen=True)
class RunReport:
    """What a run did.

    Attributes:
        folder: the run folder.
        made: nodes computed now, by stage.
        reused: nodes that were there.
        broken: damaged results that were made again, one line each.
        estimate: what was still to be done, as estimated beforehand.
        kinds: the kinds of jobs that were timed for it (dry runs only).
        files: report files.
        rows: every measured line.
    """

    folder: Path
    made: Mapping[str, int]
    reused: int
    broken: tuple[str, ...]
    estimate: Estimate
    files: tuple[Path, ...]
    rows: tuple[dict[str, Any], ...]
    kinds: tuple[Timed, ...] = ()


def run_recipe(
    recipe: Recipe,
    *,
    graph: Graph | None = None,
    stages: str = STAGES,
    runs: str | Path = "runs",
    store: Store | None = None,
    jobs: int | None = None,
    max_hours: float | None = None,
    accept_env: bool = False,
    dry_run: bool = False,
    progress: RunProgress | None = None,
) -> RunReport:
    """Run a recipe, or go on with it: whatever is in the store is not computed again.

    Args:
        recipe: checked.
        graph: its stages; default `resolve(recipe)`.
        stages: reference of the stage table.
        runs: folder of run folders.
        store: default `PRUNUS_CACHE`, else `<runs>/.store`.
        jobs: child processes at once; default the recipe's; 0 runs here.
        max_hours: default the recipe's.
        accept_env: go on although versions, processor or threads changed since the run began.
        dry_run: only time a short job of each kind, and multiply.
        progress: default a bar or plain lines on standard error.

    Raises:
        ResourceError: the folder is in use, the disk is full, or the run would take longer than `max_hours`.
        PrunusError: what a stage raised.
    """
    runs = Path(runs)
    store = store or Store(os.environ.get("PRUNUS_CACHE") or runs / ".store")
    jobs = recipe.run.jobs if jobs is None else jobs
    graph = resolve(recipe) if graph is None else graph
    facts = environment(threads=1)
    work = Work.plan(graph, stages, store, facts)
    guess = estimate(work, jobs)
    limit = recipe.run.max_hours if max_hours is None else max_hours
    if dry_run:
        timed, kinds = forecast(work, jobs)
        whole = Estimate(guess.hours + timed.hours, max(guess.ram, timed.ram), guess.disk + timed.disk, guess.cheaper)
        return RunReport(runs / recipe.folder, {}, len(work.entries), tuple(work.broken), whole, (), (), kinds)
    refuse(guess, limit, store)
    folder = RunFolder(runs / recipe.folder)
    with RunLock(folder.path) as lock:
        store.sweep()
        changed = folder.begin(recipe.canonical(), facts, accept_env=accept_env)
        folder.keys({n: {"stage": graph.nodes[n].stage, "key": key} for n, key in work.keys.items()})
        todo = counts(work)
        bar = progress or RunProgress(todo, jobs, hours=_hours(work))
        with bar:
            for line in (*work.broken, *(f"environment changed: {change}" for change in changed)):
                bar.say(line)
            reused = len(work.entries)
            _link_all(folder, work)
            done = partial(_done, folder, work)
            try:
                check = partial(_check, lock, bar, limit, time.monotonic())
                Maker(work, folder.path / "logs", bar, done, check).make(jobs)
            except KeyboardInterrupt:
                bar.say(f"stopped; what is done is kept in {store.root}: run the same command to go on")
                raise
        rows = collect(work)
        folder.rewrite(rows)
        made = _report(folder, recipe, stages)
    flat = tuple(row for lines in rows.values() for row in lines)
    return RunReport(folder.path, todo, reused, tuple(work.broken), guess, tuple(made), flat)


def estimate(work: Work, jobs: int) -> Estimate:
    """What is still to be done, from the stages' own estimates; `cheaper` comes from the dearest stage."""
    table = stage_table(work.stages)
    hours, disk, rams, dearest = 0.0, 0, list[int](), Estimate(0.0)
    for node_id in work.missing():
        node = work.graph.nodes[node_id]
        guess = table[node.stage].estimate
        if guess is None:
            continue
        one = guess(dict(node.params))
        hours, disk = hours + one.hours, disk + one.disk
        rams.append(one.ram)
        dearest = max(dearest, one, key=lambda e: e.hours if e.cheaper else -1.0)
    at_once = max(1, jobs)
    return Estimate(hours / at_once, sum(sorted(rams)[-at_once:]), disk, dearest.cheaper)


def refuse(guess: Estimate, max_hours: float, store: Store) -> None:
    """Refuse what the machine can't do or the user did not allow, naming a cheaper door."""
    door = guess.cheaper or NO_HOURS
    if guess.hours > max_hours:
        raise ResourceError(
            f"this run would take about {duration(guess.hours * 3600)}, more than --max-hours {max_hours:g}; "
            f"cheaper: {door}; or raise --max-hours"
        )
    free = files.free_bytes(store.root)
    if 0 <= free < guess.disk:
        raise ResourceError(
            f"this run would write about {files.size_text(guess.disk)} to {store.root}, "
            f"{files.size_text(free)} are free; free space, set PRUNUS_CACHE to another disk, or: {door}"
        )
    memory = memory_free()
    if 0 <= memory < guess.ram:
        raise ResourceError(
            f"this run would hold about {files.size_text(guess.ram)} in memory, {files.size_text(memory)} are free; "
            f"use --jobs 1, or: {door}"
        )


def _check(lock: RunLock, bar: RunProgress, max_hours: float, started: float) -> None:
    """Called now and then: the lock is still ours, and what the stages took so far does not add up to too many hours."""
    lock.check()
    hours = (time.monotonic() - started + bar.least()) / 3600
    if hours > max_hours:
        raise ResourceError(
            f"going by the {bar.done} stages done, this run would take more than {hours:.1f} hours, over --max-hours "
            f"{max_hours:g}; what is done is kept; cheaper: {NO_HOURS}; or raise --max-hours"
        )


def _hours(work: Work) -> dict[str, float]:
    table, hours = stage_table(work.stages), dict[str, float]()
    for node_id in work.missing():
        node = work.graph.nodes[node_id]
        if (guess := table[node.stage].estimate) is not None:
            hours[node.stage] = max(hours.get(node.stage, 0.0), guess(dict(node.params)).hours)
    return hours


def _link_all(folder: RunFolder, work: Work) -> None:
    for place, node_id in work.graph.links.items():
        if node_id in work.entries:
            folder.link(place, work.entries[node_id].path)


def _done(folder: RunFolder, work: Work, node_id: str) -> None:
    """Links and lines for one node just made."""
    for place, linked in work.graph.links.items():
        if linked == node_id:
            folder.link(place, work.entries[node_id].path)
    for arm, rows in _rows(work, node_id).items():
        folder.append(arm, rows)


def collect(work: Work) -> dict[str, list[dict[str, Any]]]:
    """Every measured line, by arm, in the recipe's order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for node_id in work.graph.measures:
        for arm, rows in _rows(work, node_id).items():
            found.setdefault(arm, []).extend(rows)
    return found


def _rows(work: Work, node_id: str) -> dict[str, list[dict[str, Any]]]:
    """Lines as core.results.Row has them; a result that no seed changes appears once, with seed null."""
    tags = work.graph.measures.get(node_id, [])
    found: dict[str, list[dict[str, Any]]] = {}
    for tag in {(t.arm, t.budget): t for t in tags}.values():
        seeds = {t.seed for t in tags if (t.arm, t.budget) == (tag.arm, tag.budget)}
        head = {
            "what": tag.arm,
            "method": tag.method,
            "budget": tag.budget,
            "control": tag.control,
            "dense": tag.dense,
            "like": tag.like,
        }
        head |= {"seed": tag.seed if len(seeds) == 1 else None, "cost": cost(work, node_id)}
        lines = [{"interval": None, "note": "", **line, **head} for line in rows_of(work.entries[node_id].path)]
        found.setdefault(tag.arm, []).extend(lines)
    return found


def cost(work: Work, node_id: str) -> dict[str, float]:
    """What a node was made from: CPU-seconds of signals, selection, teacher, training, recovery; samples seen in training.

    A teacher's training is told apart: it is spent once, however many students follow.
    """
    spent: dict[str, float] = {}
    sources = work.graph.before(node_id)
    teachers = {source for node in sources if (source := work.graph.nodes[node].inputs.get("teacher"))}
    for source in sources:
        kind = SPENT_ON.get(work.graph.nodes[source].stage)
        kind = "teacher" if kind and source in teachers else kind
        entry = work.entries.get(source) or work.store.get(work.keys[source])
        if kind is None or entry is None:
            continue
        if "cpu_s" in entry.cost:
            spent[f"{kind}_cpu_s"] = spent.get(f"{kind}_cpu_s", 0.0) + float(entry.cost["cpu_s"])
        if kind != "teacher" and (samples := samples_of(entry.path)) is not None:
            spent["samples"] = spent.get("samples", 0.0) + samples
    return dict(sorted(spent.items()))


def _report(folder: RunFolder, recipe: Recipe, stages: str) -> list[Path]:
    """The report is made anew every time: it is cheap, and it reads the run folder, not the store."""
    stage = stage_table(stages).get("report")
    if stage is None:
        return []
    out = Path(tempfile.mkdtemp(prefix=".report.", dir=folder.path))
    try:
        params = {**recipe.report.model_dump(mode="json"), "name": recipe.run.name}
        stage.body({"run": folder.path}, params, out)
        return folder.publish(out)
    finally:
        shutil.rmtree(out, ignore_errors=True)
