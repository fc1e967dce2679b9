"""Leaves of the algebra that occur in parameters become core Groups."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from prunus.core.prunable import Group, Role, Slot
from prunus.graph.axes import Axis, Cat, index_of, leaves, reason_of, resolve
from prunus.graph.build import Graph


def assemble(graph: Graph) -> None:
    """Fill `graph.groups`, `graph.axes` and `graph.frozen` from the dimensions of the parameters."""
    found: dict[Axis, list[Slot]] = defaultdict(list)
    for name in graph.parameters:
        for axis, dim in enumerate(graph.tensors[name]):
            item = resolve(dim)
            free = [leaf for leaf in dict.fromkeys(leaves(item)) if leaf.size > 1 and not leaf.frozen]
            for leaf in free:
                found[leaf].append(Slot(name, axis, _role(graph, name, axis), index_of(item, leaf)))
            if item.size > 1 and not free:
                graph.frozen[(name, axis)] = reason_of(item) or "single positions taken out one by one"
    named: dict[str, Axis] = {}
    groups: list[Group] = []
    for slots in found.values():
        slots.sort(key=lambda slot: (slot.parameter, slot.axis))
    found = _with_layers(graph, found)
    for leaf, slots in sorted(found.items(), key=lambda item: int(item[1][0].index.min())):  # pieces in their order
        slots.sort(key=lambda slot: (slot.parameter, slot.axis))
        name = _name(graph, leaf, slots, named)
        named[name] = leaf
        groups.append(Group(name, "channels", leaf.size, tuple(slots), _cost(graph, slots), _tag(graph, leaf, slots)))
    graph.groups = tuple(sorted(groups, key=lambda group: group.name))
    graph.axes = named


def _with_layers(graph: Graph, found: dict[Axis, list[Slot]]) -> dict[Axis, list[Slot]]:
    """Without the axes that only vectors share, as a table of positions of its own has: nothing can judge their units."""
    kept: dict[Axis, list[Slot]] = {}
    for leaf, slots in found.items():
        if any(slot.role != "vector" for slot in slots):
            kept[leaf] = slots
            continue
        for slot in slots:
            graph.frozen[(slot.parameter, slot.axis)] = "no layer writes or reads it"
    return kept


def _role(graph: Graph, name: str, axis: int) -> Role:
    canonical = graph.parameters[name]
    return graph.roles.get((name, axis)) or graph.roles.get((canonical, axis), "vector")


def _name(graph: Graph, leaf: Axis, slots: list[Slot], taken: dict[str, Axis]) -> str:
    own = [slot for slot in slots if slot.role == "writer"] or slots
    first = own[0]
    name = f"{first.parameter}:{first.axis}"
    if "head" in leaf.marks and _composed(graph, first):
        name += ":head"
    elif "block" in leaf.marks and _composed(graph, first):
        name += ":block"
    elif "dim" in leaf.marks and _composed(graph, first):
        name += ":dim"
    number = 1
    while (tried := name if number == 1 else f"{name}@{number}") in taken:
        number += 1
    return tried


def _composed(graph: Graph, slot: Slot) -> bool:
    return not isinstance(resolve(graph.tensors[slot.parameter][slot.axis]), Axis)


def _cost(graph: Graph, slots: list[Slot]) -> float:
    """Parameters that one unit owns."""
    total = 0.0
    seen: set[tuple[str, int]] = set()
    for slot in slots:
        key = (graph.parameters[slot.parameter], slot.axis)
        if key not in seen:
            seen.add(key)
            shape = graph.shapes[slot.parameter]
            total += slot.index.shape[1] * float(np.prod(shape)) / shape[slot.axis]
    return total


def _tag(graph: Graph, leaf: Axis, slots: list[Slot]) -> str:
    kinds: Counter[str] = Counter()
    for slot in slots:
        path, _, attribute = slot.parameter.rpartition(".")
        kinds[f"{graph.classes.get(path, '')}.{attribute}:{slot.axis}"] += 1
    marks = "".join(f":{name}" for name in sorted(leaf.marks))
    return "+".join(f"{count}x{kind}" if count > 1 else kind for kind, count in sorted(kinds.items())) + marks


def pieces(graph: Graph, parameter: str, axis: int) -> int:
    """Number of parts a parameter axis is made of."""
    item = resolve(graph.tensors[parameter][axis])
    return len(item.parts) if isinstance(item, Cat) else 1
