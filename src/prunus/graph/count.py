"""Exact parameters and multiply-accumulates as a function of the kept sizes, without running the model again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from prunus.graph.axes import Axis, Dim, Prod, leaves, resolve
from prunus.graph.build import Graph

Sizes = Mapping[Axis, int]
Term = tuple[int, tuple[Callable[[Sizes], int], ...]]


@dataclass(frozen=True, slots=True)
class Counts:
    """Parameters of the whole saved model (ties once) and multiply-accumulates of the recorded pass."""

    params: int
    macs: int


@dataclass(frozen=True, slots=True)
class Row:
    """One module's own share."""

    module: str
    kind: str
    params: int
    macs: int


class Counter:
    """Counts a graph at any choice of kept sizes; built once, then milliseconds per call."""

    def __init__(self, graph: Graph) -> None:
        self._axes = graph.axes
        self._compiled: dict[Dim, Callable[[Sizes], int]] = {}
        self._params: list[tuple[str, Term]] = []
        self._macs: list[tuple[str, Term]] = []
        self._kinds = graph.classes
        for name, canonical in graph.parameters.items():
            if name == canonical:
                self._params.append((name.rpartition(".")[0], self._term(1, tuple(graph.tensors[name]))))
        for node, note in zip(graph.main.trace.nodes, graph.main.notes):
            self._macs += [(node.module, self._term(factor, dims)) for factor, dims in note.macs]

    def _term(self, factor: int, dims: tuple[Dim, ...]) -> Term:
        live: list[Callable[[Sizes], int]] = []
        for dim in dims:
            item = resolve(dim)
            for part in item.factors if isinstance(item, Prod) else (item,):
                part = resolve(part)
                if all(leaf.frozen or leaf.size == 1 for leaf in leaves(part)):
                    factor *= part.size
                else:
                    live.append(self._function(part))
        return factor, tuple(live)

    def _function(self, dim: Dim) -> Callable[[Sizes], int]:
        known = self._compiled.get(dim)
        if known is None:
            known = self._compiled[dim] = _compile(dim)
        return known

    def count(self, sizes: Mapping[str, int] | None = None) -> Counts:
        """Counts with the given kept sizes by group name; groups that are not named are whole."""
        chosen = self._chosen(sizes)
        return Counts(_sum(self._params, chosen), _sum(self._macs, chosen))

    def table(self, sizes: Mapping[str, int] | None = None) -> list[Row]:
        """Per-module shares, in order of first appearance."""
        chosen = self._chosen(sizes)
        params: dict[str, int] = {}
        macs: dict[str, int] = {}
        for store, terms in ((params, self._params), (macs, self._macs)):
            for path, term in terms:
                store[path] = store.get(path, 0) + _value(term, chosen)
        return [
            Row(path, self._kinds.get(path, ""), params.get(path, 0), macs.get(path, 0)) for path in {**params, **macs}
        ]

    def _chosen(self, sizes: Mapping[str, int] | None) -> dict[Axis, int]:
        return {self._axes[name]: int(size) for name, size in (sizes or {}).items()}


def _value(term: Term, chosen: Sizes) -> int:
    return term[0] * prod([function(chosen) for function in term[1]])


def _sum(terms: list[tuple[str, Term]], chosen: Sizes) -> int:
    return sum(_value(term, chosen) for _, term in terms)


def _compile(dim: Dim) -> Callable[[Sizes], int]:
    item = resolve(dim)
    if isinstance(item, Axis):
        size = item.size
        return lambda sizes: sizes.get(item, size)
    parts = [_compile(part) for part in (item.factors if isinstance(item, Prod) else item.parts)]
    if isinstance(item, Prod):
        return lambda sizes: prod([part(sizes) for part in parts])
    return lambda sizes: sum([part(sizes) for part in parts])


def count(graph: Graph, sizes: Mapping[str, int] | None = None) -> Counts:
    """Parameters and MACs of a graph with the given kept sizes by group name."""
    return Counter(graph).count(sizes)
