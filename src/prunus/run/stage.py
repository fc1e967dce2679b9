"""Stages: the steps of a run. A stage reads folders, writes one folder, and knows nothing of stores or processes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prunus.core import files
from prunus.core.errors import BadInput, UnknownName
from prunus.core.fingerprint import Digest
from prunus.run.shorter import Shorter

Body = Callable[[Mapping[str, Path], dict[str, Any], Path], None]


@dataclass(frozen=True)
class Estimate:
    """What a stage will take.

    Attributes:
        hours: on this machine, one process.
        ram: peak bytes.
        disk: bytes it leaves.
        cheaper: what to change to pay less, as one sentence ("limit fit to 8000 rows").
    """

    hours: float
    ram: int = 0
    disk: int = 0
    cheaper: str = ""


@dataclass(frozen=True)
class Stage:
    """A line of the stage table.

    Attributes:
        body: `body(inputs, params, out)`: reads the folders of `inputs` (by name), fills the empty folder `out`.
        version: raise it when the same parameters give other results; old entries are then not used.
        facts: `facts(params, digest)`: what the result depends on outside the run, as fingerprints of files; part of the key.
        estimate: `estimate(params)`: what it will take, where that is known without trying.
        shorter: `shorter(params, rows of each role)`: a short job of the same kind, which a forecast runs and times.
        trains: the result depends on thread count and torch version (signals and models from training).
        warm: called before the clock starts: what a process imports once is no cost of its first stage.
    """

    body: Body
    version: int = 1
    facts: Callable[[dict[str, Any], Digest], Mapping[str, Any]] | None = None
    estimate: Callable[[dict[str, Any]], Estimate] | None = None
    shorter: Callable[[dict[str, Any], Mapping[str, int]], Shorter] | None = None
    trains: bool = False
    warm: Callable[[], None] | None = None


@dataclass(frozen=True)
class Node:
    """One call of a stage.

    Attributes:
        stage: name in the stage table.
        params: plain values.
        inputs: name -> id of the node that makes it.
        label: for people: `plan of el2n + ccs at 30% rows, seed 0`.
    """

    stage: str
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    label: str = ""

    @property
    def id(self) -> str:
        """The same for the same stage, parameters and inputs: what two arms share is made once."""
        return f"{self.stage}-{files.digest([self.stage, dict(self.params), dict(self.inputs)])[:16]}"


@dataclass(frozen=True)
class Tag:
    """Where a node's result belongs in the table of results."""

    arm: str
    budget: str
    seed: int | None
    method: str = ""
    control: bool = False
    dense: str = ""
    like: str = ""


@dataclass
class Graph:
    """Nodes in an order in which every input comes before its reader.

    Attributes:
        nodes: id -> node.
        links: path below arms/ -> node id, for people who look for a plan.
        measures: node id -> where its metrics belong.
    """

    nodes: dict[str, Node] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    measures: dict[str, list[Tag]] = field(default_factory=dict)

    def add(self, node: Node) -> str:
        """Add a node (once) and return its id."""
        for name, source in node.inputs.items():
            if source not in self.nodes:
                raise BadInput(
                    f"input {name!r} of {node.label or node.stage} comes from {source!r}, which is not there"
                )
        self.nodes.setdefault(node.id, node)
        return node.id

    def before(self, node_id: str) -> set[str]:
        """The node and everything it was made from."""
        found: set[str] = set()
        waiting = [node_id]
        while waiting:
            current = waiting.pop()
            if current not in found:
                found.add(current)
                waiting.extend(self.nodes[current].inputs.values())
        return found


def stage_table(reference: str) -> Mapping[str, Stage]:
    """The table that `module:NAME` names."""
    module, _, name = reference.partition(":")
    table = getattr(importlib.import_module(module), name or "STAGES", None)
    if not isinstance(table, Mapping):
        raise BadInput(f"{reference!r} is no stage table: write module:NAME of a dict of Stage")
    return table


def stage_named(table: Mapping[str, Stage], name: str) -> Stage:
    """One stage, or an error that names the nearest."""
    if name not in table:
        raise UnknownName("stage", name, table)
    return table[name]


def node_key(
    node: Node, stage: Stage, inputs: Mapping[str, str], environment: Mapping[str, Any], digest: Digest
) -> dict[str, Any]:
    """What the store key of a node is made of.

    Args:
        node: the node.
        stage: its stage.
        inputs: name -> key of the input.
        environment: facts of core/environment.py.
        digest: of a file that lies outside the run.
    """
    parts: dict[str, Any] = {"stage": node.stage, "version": stage.version, "params": dict(node.params)}
    parts["inputs"] = dict(inputs)
    parts["facts"] = dict(stage.facts(dict(node.params), digest)) if stage.facts else {}
    if stage.trains:
        packages = environment.get("packages", {})
        parts["training"] = {"threads": environment.get("threads"), "torch": packages.get("torch")}
    return parts
