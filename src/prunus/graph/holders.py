"""Where the numbers of a model are held, and which of them an operator was given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import nn

from prunus.graph.axes import Axis, Cat, Dim, Prod, concat, leaves, product, resolve, size_of
from prunus.graph.resize import is_standard
from prunus.graph.trace import Node, Trace


def ordinals(trace: Trace) -> tuple[list[int], dict[tuple[str, int], Node]]:
    counts: dict[str, int] = {}
    ordinals: list[int] = []
    places: dict[tuple[str, int], Node] = {}
    for node in trace.nodes:
        ordinals.append(counts.get(node.module, 0))
        places[(node.module, ordinals[-1])] = node
        counts[node.module] = ordinals[-1] + 1
    return ordinals, places


def subtrees(dims: list[Dim]) -> Iterator[Dim]:
    """Every dimension, run of factors, part and leading parts, in a fixed order."""
    for dim in dims:
        yield from _subtree(resolve(dim))


def _subtree(item: Dim) -> Iterator[Dim]:
    yield item
    if isinstance(item, Prod):
        count = len(item.factors)
        for first, last in ((a, b) for a in range(count) for b in range(a + 1, count + 1)):
            if last - first == 1:
                yield from _subtree(resolve(item.factors[first]))
            elif last - first < count:
                yield product(item.factors[first:last])
    elif isinstance(item, Cat) and len(item.parts) <= 8:
        for position, part in enumerate(item.parts):
            yield from _subtree(resolve(part))
            if 0 < position < len(item.parts) - 1:
                yield concat(item.parts[: position + 1])


def attributes(module: nn.Module | None, path: str) -> Iterator[tuple[str, int | None, bool, int]]:
    """Whole numbers held by a module or its config: (attribute, place in a sequence, config?, value)."""
    if module is None or is_standard(module):
        return
    config = getattr(module, "config", None)
    for owner, in_config in ((module, False), (config, True)):
        for name, item in vars(owner).items() if hasattr(owner, "__dict__") else ():
            yield from ((name, place, in_config, number) for place, number in _numbers(item))


def _numbers(item: object) -> Iterator[tuple[int | None, int]]:
    """A whole number above 1, or those of a sequence with their places."""
    if isinstance(item, int) and not isinstance(item, bool) and item > 1:
        yield None, item
    elif isinstance(item, (tuple, list)):
        for place, entry in enumerate(cast("list[object]", item)):
            if isinstance(entry, int) and not isinstance(entry, bool) and entry > 1:
                yield place, entry


def sizes_of_first(pairs: list[tuple[Axis, Axis]], sizes: dict[Axis, int]) -> dict[Axis, int]:
    """The size that each second member of some pairs has."""
    return {first: sizes[first] for _, first in pairs}


def leaves_of(dims: list[Dim]) -> list[Axis]:
    """Every leaf of several dimensions."""
    return [leaf for dim in dims for leaf in leaves(dim)]


def differ(a: Dim, b: Dim, sizes: dict[Axis, int]) -> bool:
    return a.size == b.size and size_of(a, sizes) != size_of(b, sizes)


def numbers_differ(before: Node, node: Node) -> str:
    """Scale factors must not follow the sizes."""
    if before.op not in ("mul", "div", "add", "sub", "pow", "scaled_dot_product_attention", "mul_", "div_", "full"):
        return ""
    old = [item for item in (*before.args, *before.kwargs.values()) if isinstance(item, float)]
    new = [item for item in (*node.args, *node.kwargs.values()) if isinstance(item, float)]
    return f"the number {new} instead of {old}" if old != new else ""
