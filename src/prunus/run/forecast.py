"""What a recipe will take: a short job of every kind it holds is run and timed, and multiplied by how often it comes.

Only stages that pass over rows (training, signals, recovery, measuring) are timed; scores, plans and cuts take seconds each.
Every cut model is taken for its dense one, so what follows a cut is an upper bound.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prunus.core import files
from prunus.core.budget import Budget
from prunus.core.environment import peak_bytes
from prunus.run.engine import Work
from prunus.run.shorter import Shorter
from prunus.run.stage import Estimate, Node, Stage, stage_table

SLOW = 5.0  # seconds: what imports take is no matter beside this
NO_HOURS = "use fewer seeds (run.seeds=[0]), fewer budgets, or fewer rows (data.fit.limit)"


@dataclass(frozen=True)
class Timed:
    """One kind of job: its stage, how many of it are to do, seconds of one, and bytes that one leaves."""

    stage: str
    label: str
    count: int
    seconds: float
    disk: int


def forecast(work: Work, jobs: int) -> tuple[Estimate, tuple[Timed, ...]]:
    """Time a short job of each kind that is still to do; data and models that are not there yet are made in a temporary folder.

    Args:
        work: the graph and what of it is there.
        jobs: processes at once.

    Returns:
        hours of all, peak memory of `jobs` processes, bytes on disk; and the kinds they are made of, dearest first.

    Raises:
        PrunusError: what a stage raised: a recipe that can't run fails here already.
    """
    with _folder() as place:
        timing = _Timing(work, stage_table(work.stages), place)
        for node_id in work.missing():
            timing.add(node_id)
        kinds = tuple(sorted(timing.kinds.values(), key=lambda kind: -kind.count * kind.seconds))
    at_once = max(1, jobs)
    hours = sum(kind.count * kind.seconds for kind in kinds) / 3600 / at_once
    disk = sum(kind.count * kind.disk for kind in kinds)
    return Estimate(hours, at_once * peak_bytes() if kinds else 0, disk, NO_HOURS if kinds else ""), kinds


@contextmanager
def _folder() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="prunus-forecast."))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@dataclass
class _Timing:
    work: Work
    table: Mapping[str, Stage]
    place: Path
    kinds: dict[str, Timed] = field(default_factory=dict)

    def add(self, node_id: str) -> None:
        """Count a node; the first of its kind is timed."""
        node = self.work.graph.nodes[node_id]
        shorter = self.table[node.stage].shorter
        if shorter is None:
            return
        sources = {"data": node.inputs["data"], "model": self._first(node, "model"), **self._teacher(node)}
        job = shorter(dict(node.params), self._rows(node))
        alike = [_unseeded(self.work.graph.nodes[each]) for each in sources.values()]
        kind = files.digest([_unseeded(node), alike, round(job.times, 6)])
        found = self.kinds.get(kind) or self._time(node, job, sources)
        self.kinds[kind] = Timed(found.stage, found.label, found.count + 1, found.seconds, found.disk)

    def _time(self, node: Node, job: Shorter, sources: Mapping[str, str]) -> Timed:
        """Run it, and when that was quick once more: the first time pays for imports and caches."""
        inputs = {name: self.made(source) for name, source in sources.items()}
        inputs["dense"] = inputs["model"]
        seconds, size = self._once(node, job, inputs)
        if seconds < SLOW:
            seconds, size = self._once(node, job, inputs)
        return Timed(node.stage, node.label, 0, seconds * job.times, size)

    def _once(self, node: Node, job: Shorter, inputs: Mapping[str, Path]) -> tuple[float, int]:
        """Seconds it takes and bytes it leaves."""
        out = Path(tempfile.mkdtemp(dir=self.place))
        start = time.perf_counter()
        self.table[node.stage].body(inputs, job.params, out)
        seconds = time.perf_counter() - start
        return seconds, sum(path.stat().st_size for path in out.rglob("*") if path.is_file())

    def made(self, node_id: str) -> Path:
        """The folder of a data or model node, made here if it is not in the store."""
        if node_id in self.work.entries:
            return self.work.entries[node_id].path
        out = self.place / node_id
        if not out.exists():
            out.mkdir()
            node = self.work.graph.nodes[node_id]
            self.table[node.stage].body({}, dict(node.params), out)
        return out

    def _first(self, node: Node, name: str) -> str:
        """The node at the beginning of the chain of models that this one belongs to."""
        source = node.inputs[name]
        before = self.work.graph.nodes[source]
        return self._first(before, name) if name in before.inputs else source

    def _teacher(self, node: Node) -> dict[str, str]:
        """A teacher that was not trained yet runs forward as fast as one that was."""
        source = node.inputs.get("teacher")
        if source is None:
            return {}
        taught = self.work.graph.nodes[source]
        return {"teacher": self._first(taught, "model") if "model" in taught.inputs else source}

    def _rows(self, node: Node) -> dict[str, int]:
        """Rows of each role, and `kept`: those that a plan over rows leaves of `fit`."""
        head = files.read_json(self.made(node.inputs["data"]) / "data.json")
        rows = {role: int(facts["rows"]) for role, facts in head["roles"].items()}
        plan = self._budget(node)
        return {**rows, "kept": Budget.parse(plan).count(rows["fit"]) if plan else rows["fit"]}

    def _budget(self, node: Node) -> str:
        """What the recipe asks of the rows that a training is given; empty when it is given all."""
        if dynamic := node.params.get("dynamic"):
            return str(dynamic["budget"])
        plan: Any = self.work.graph.nodes[node.inputs["plan"]].params if "plan" in node.inputs else {}
        return str(plan["budget"]) if plan.get("unit") == "rows" else ""


def _unseeded(node: Node) -> list[Any]:
    """What a node's cost depends on: another seed takes as long."""
    seeds = ("seed", "seeds", "dynamic")
    return [node.stage, {name: value for name, value in node.params.items() if name not in seeds}]
