"""The engine: makes every node of a graph that the store lacks, several at once, and can be killed at any moment.

All state is in the store (whole entries) and in the run folder (links and tables, made again from the store). So
resuming is running again: what is there is skipped, what is broken is told and made again.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prunus.core import files
from prunus.core.errors import CorruptFile, PrunusError, StageFailed
from prunus.core.fingerprint import Digests
from prunus.core.store import Entry, Store
from prunus.run.progress import RunProgress
from prunus.run.stage import Graph, node_key, stage_named, stage_table
from prunus.run.worker import Worker, rebuilt, run_job, told

POLL = 0.5
Call = Callable[[Mapping[str, Any]], float]


@dataclass
class Work:
    """A graph with its keys, and what of it is there.

    Attributes:
        graph: the nodes.
        stages: reference of the stage table, `module:NAME`.
        store: where results lie.
        parts: node id -> what its key is made of; in the graph's order.
        keys: node id -> key.
        entries: node id -> entry, for what is there.
        broken: what was found damaged and will be made again, one line each.
    """

    graph: Graph
    stages: str
    store: Store
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    @classmethod
    def plan(cls, graph: Graph, stages: str, store: Store, environment: Mapping[str, Any]) -> Work:
        """Work out every key and look up what is there (checksums compared)."""
        work, table = cls(graph, stages, store), stage_table(stages)
        digests = Digests(store.root / "digests.json")
        for node_id, node in graph.nodes.items():
            inputs = {name: work.keys[source] for name, source in node.inputs.items()}
            work.parts[node_id] = node_key(node, stage_named(table, node.stage), inputs, environment, digests)
            work.keys[node_id] = files.digest(work.parts[node_id])
            work._look_up(node_id)
        digests.save()
        return work

    def _look_up(self, node_id: str) -> None:
        key = self.keys[node_id]
        try:
            entry = self.store.get(key, verify=True)
        except CorruptFile as error:
            self.broken.append(f"{self.graph.nodes[node_id].label or node_id}: {error}; it is made again")
            self.store.discard(key)
            return
        if entry is not None:
            self.entries[node_id] = entry

    def missing(self) -> list[str]:
        """Node ids still to be made, in order: only what the wanted results need."""
        needed: set[str] = set()
        for node_id in self.wanted():
            self._need(node_id, needed)
        return [node_id for node_id in self.graph.nodes if node_id in needed]

    def wanted(self) -> list[str]:
        """Nodes whose results people read: measured, linked, or read by nobody else."""
        read = {source for node in self.graph.nodes.values() for source in node.inputs.values()}
        named = {*self.graph.measures, *self.graph.links.values()}
        return [node_id for node_id in self.graph.nodes if node_id in named or node_id not in read]

    def _need(self, node_id: str, needed: set[str]) -> None:
        waiting = [node_id]
        while waiting:
            current = waiting.pop()
            if current not in self.entries and current not in needed:
                needed.add(current)
                waiting.extend(self.graph.nodes[current].inputs.values())

    def job(self, node_id: str) -> dict[str, Any]:
        """What a worker needs to make a node."""
        node = self.graph.nodes[node_id]
        inputs = {name: str(self.entries[source].path.absolute()) for name, source in node.inputs.items()}
        job = {"stages": self.stages, "stage": node.stage, "params": dict(node.params), "inputs": inputs}
        return job | {"key": self.keys[node_id], "parts": self.parts[node_id], "store": str(self.store.root.absolute())}


@dataclass
class Maker:
    """Makes what is missing of a graph.

    Attributes:
        work: the graph; `entries` is filled.
        logs: folder for what the stages print.
        progress: told of every node made.
        done: called for every node made.
        check: called now and then; raises when the run must stop (lock lost).
    """

    work: Work
    logs: Path
    progress: RunProgress
    done: Callable[[str], None]
    check: Callable[[], None]

    def make(self, jobs: int, threads: int = 1) -> None:
        """Make it.

        Args:
            jobs: child processes at once; 0 runs in this process (for debugging).
            threads: computing threads of each child.

        Raises:
            PrunusError: the first stage that failed, with its class and exit code; what others were making is kept.
        """
        missing = self.work.missing()
        if jobs:
            jobs = min(jobs, max(1, len(missing)))
            with _pool(jobs, self.logs, threads) as (executor, call):
                self._many(missing, jobs, executor, call)
            return
        for node_id in missing:
            self.check()
            started = time.monotonic()
            self._named_errors(node_id, lambda node_id=node_id: run_job(self.work.job(node_id)))
            self._arrived(node_id, time.monotonic() - started)

    def _many(self, missing: list[str], jobs: int, executor: ThreadPoolExecutor, call: Call) -> None:
        """Keep `jobs` children busy with the first nodes that are ready, so that results come case by case."""
        waiting, running, failure = dict.fromkeys(missing), dict[Future[float], str](), None
        while running or (waiting and failure is None):
            ready = (n for n in waiting if self._ready(n)) if failure is None else ()
            for node_id in list(itertools.islice(ready, jobs - len(running))):
                running[executor.submit(call, self.work.job(node_id))] = node_id
                del waiting[node_id]
            finished, _ = wait(running, timeout=POLL, return_when=FIRST_COMPLETED)
            self.check()
            for future in finished:
                failure = self._take(running.pop(future), future) or failure
            if failure is not None and running and finished:
                self.progress.say(f"{failure}\nwaiting for {len(running)} stage(s) under way; Ctrl-C stops them")
        if failure is not None:
            raise failure

    def _ready(self, node_id: str) -> bool:
        return all(source in self.work.entries for source in self.work.graph.nodes[node_id].inputs.values())

    def _take(self, node_id: str, future: Future[float]) -> PrunusError | None:
        try:
            self._named_errors(node_id, future.result)
            self._arrived(node_id, future.result())
        except PrunusError as error:
            return error
        return None

    def _arrived(self, node_id: str, seconds: float) -> None:
        work, name = self.work, self._name(node_id)
        entry = work.store.get(work.keys[node_id])
        if entry is None:
            raise StageFailed(f"{name} said it was done, but its result is not in {work.store.root}")
        work.entries[node_id] = entry
        self.done(node_id)
        self.progress.finished(work.graph.nodes[node_id].stage, name, seconds)

    def _name(self, node_id: str) -> str:
        node = self.work.graph.nodes[node_id]
        return node.label or node.stage

    def _named_errors(self, node_id: str, call: Callable[[], object]) -> None:
        """Say which stage failed, and that running again goes on from there; class and exit code stay."""
        try:
            call()
        except Exception as error:
            kind, what = told(error)
            where = f"what it printed is in {self.logs}; " if self.logs.exists() else ""
            message = f"{self._name(node_id)} failed: {what} ({where}run again to go on from here)"
            raise rebuilt(kind, message) from error


@contextmanager
def _pool(jobs: int, logs: Path, threads: int) -> Generator[tuple[ThreadPoolExecutor, Call]]:
    """Threads that each hold a child process; all children are ended when the block is left, however it is left."""
    workers: list[Worker] = []
    mine, lock, closing = threading.local(), threading.Lock(), threading.Event()

    def call(job: Mapping[str, Any]) -> float:
        if not hasattr(mine, "worker"):
            with lock:
                if closing.is_set():
                    raise StageFailed("the run is being stopped")
                mine.worker = Worker(logs / f"worker-{len(workers)}.log", threads)
                workers.append(mine.worker)
        started = time.monotonic()
        mine.worker.run(job)
        return time.monotonic() - started

    executor = ThreadPoolExecutor(jobs, thread_name_prefix="stage")
    try:
        yield executor, call
    finally:
        with lock:
            closing.set()
            for worker in workers:
                worker.stop()
        executor.shutdown(wait=True, cancel_futures=True)


def counts(work: Work) -> dict[str, int]:
    """Stage name -> how many nodes are still to be made."""
    return dict(Counter(work.graph.nodes[node_id].stage for node_id in work.missing()))
