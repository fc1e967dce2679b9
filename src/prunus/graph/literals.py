"""Sizes that the model's code holds as numbers: found by a trial, bound to the graph or reported.

Every group is resized on the fake copy and the pass is recorded again. Each operator's output must have the size the
algebra predicts, and each number it is given must be the one it was given before. Where they differ, an attribute of
the module (or its config) that holds the old size is bound to the dimension; what no attribute explains is frozen.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from prunus.graph.axes import Axis, Cat, Dim, freeze, is_frozen, leaves, resolve, size_of, unify
from prunus.graph.build import Binding, Graph
from prunus.graph.holders import attributes, differ, leaves_of, numbers_differ, ordinals, sizes_of_first, subtrees
from prunus.graph.record import Twin
from prunus.graph.resize import place_all, refresh, write_attribute
from prunus.graph.rules import bind, known
from prunus.graph.trace import Node, Trace

VARIABLE = ("nonzero", "nonzero_numpy", "masked_select", "nms", "unique", "unique2", "_unique2", "unique_dim", "where_")
ROUNDS = 400  # trials before giving up; each is one fake pass


class _Stop(Exception):
    """Ends a trial at the first difference."""


@dataclass(slots=True)
class Difference:
    """The first operator of a trial that did not behave as predicted."""

    index: int
    node: Node
    text: str


def settle(graph: Graph, twin: Twin | None) -> None:
    """Bind or freeze until a pass with every group resized behaves as predicted."""
    if twin is None:
        _freeze_movements(graph)
        return
    trial = Trial(graph, twin)
    for _ in range(ROUNDS):
        targets = trial.all_leaves()
        found = trial.run(targets) or trial.run(targets, trial.sizes(targets[::-1]))
        if found is None:
            break
        for leaf in trial.involved(found, targets):
            if not leaf.frozen and leaf.bound is None:
                _settle_family(trial, trial.family(found, leaf))
    trial.restore()


def _settle_family(trial: Trial, family: list[Axis]) -> None:
    """Resize one kind of leaf only, and repair or freeze it."""
    for _ in range(ROUNDS):
        live = [leaf for leaf in family if not leaf.frozen and leaf.bound is None]
        found = (trial.run(live) or trial.run(live, trial.sizes(live[::-1]))) if live else None
        if found is None:
            return
        mends = (trial.share, trial.repair, trial.even, trial.width)
        if not any(mend(found, live) for mend in mends):
            place = found.node.module or "the model"
            reason = f"{found.node.op} in {place} ({trial.kind(place)}): {found.text}"
            guilty = trial.involved(found, live)
            for leaf in {one for part in guilty for one in trial.family(found, part)} or set(live):
                freeze(leaf, reason)


class Trial:
    """Runs the copy with some leaves resized."""

    def __init__(self, graph: Graph, twin: Twin) -> None:
        self.graph = graph
        self.twin = twin
        self.main = graph.main
        self.modules = dict(twin.model.named_modules())
        nodes = enumerate(self.main.trace.nodes)
        self.limit = next((index for index, node in nodes if node.op in VARIABLE), len(self.main.trace.nodes) + 1)
        self.ordinals, self.by_place = ordinals(self.main.trace)

    def all_leaves(self) -> list[Axis]:
        """Every live leaf of a parameter."""
        found: dict[Axis, None] = {}
        for name in self.graph.parameters:
            for dim in self.graph.tensors[name]:
                found.update(dict.fromkeys(leaf for leaf in leaves(dim) if leaf.size > 1 and not leaf.frozen))
        return list(found)

    def sizes(self, targets: list[Axis]) -> dict[Axis, int]:
        """Another size for each leaf, varied so that sizes which must agree are told apart.

        Larger, not smaller: code often takes a shortcut when a size is 1.
        """
        return {leaf: leaf.size + 1 + number % 11 for number, leaf in enumerate(targets)}

    def run(self, targets: list[Axis], forced: dict[Axis, int] | None = None) -> Difference | None:
        """First difference between prediction and pass, or None; `forced` sizes come on top."""
        self.current = self.sizes(targets) | (forced or {})
        self._resize(self.current)
        trace = Trace()
        text = ""

        def watch(running: Trace) -> None:
            nonlocal trace, text
            trace = running
            text = self._compare(running)
            if text:
                raise _Stop

        try:
            trace = self.twin.trace(known, watch)
        except _Stop:
            return self._difference(len(trace.nodes) - 1, text)
        except Exception as error:  # whatever the model raises on another size is a finding
            return self._difference(
                len(trace.nodes), f"a size in its code does not follow: {str(error).splitlines()[0]}"
            )
        return None

    def _difference(self, index: int, text: str) -> Difference:
        nodes = self.main.trace.nodes
        index = min(index, len(nodes) - 1)
        return Difference(index, nodes[index], text)

    def _resize(self, sizes: dict[Axis, int]) -> None:
        graph = self.graph

        def make(name: str, tensor: Tensor) -> Tensor:
            shape = [size_of(dim, sizes) for dim in graph.tensors[name]]
            if list(tensor.shape) == shape:
                return tensor
            fresh = torch.ones(shape, dtype=tensor.dtype, device=tensor.device)
            return nn.Parameter(fresh, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fresh

        with self.twin.inside(), torch.no_grad():
            place_all(self.twin.model, graph, make)
            refresh(self.twin.model, graph, sizes)

    def restore(self) -> None:
        """Give the copy its original sizes."""
        self._resize({})

    def _compare(self, running: Trace) -> str:
        """Difference at the newest node of a running trace, or an empty text."""
        index = len(running.nodes) - 1
        node = running.nodes[index]
        if index >= self.limit:
            return ""
        if index >= len(self.main.trace.nodes):
            return "more operators than before"
        before = self.main.trace.nodes[index]
        if before.op != node.op:
            return f"operator {node.op} ran instead"
        for old, new in zip(before.outputs, node.outputs):
            if old is None or new is None:
                continue
            expected = tuple(size_of(dim, self.current) for dim in self.main.dims[old])
            if expected != running.values[new].shape:
                return f"size {list(running.values[new].shape)} instead of {list(expected)}"
        return self._literal_differs(index, node) or numbers_differ(before, node)

    def _literal_differs(self, index: int, node: Node) -> str:
        """A number of groups that does not follow, where the operator would not notice."""
        given = bind(node)
        for name, dim in self.main.notes[index].literals.items():
            held = given.get(name)
            held = prod(held) if isinstance(held, tuple) else held
            if isinstance(held, int) and held != size_of(dim, self.current):
                return f"{name} {held} instead of {size_of(dim, self.current)}"
        return ""

    def involved(self, found: Difference, targets: list[Axis]) -> list[Axis]:
        """Resized leaves among the dimensions of the node that differed, else those found by halving."""
        pool = set(targets)
        near: dict[Axis, None] = {}
        for dim in self._dims(found.node):
            near.update(dict.fromkeys(leaf for leaf in leaves(dim) if leaf in pool))
        return list(near) or self._guilty(targets)

    def _guilty(self, targets: list[Axis]) -> list[Axis]:
        """Leaves that make the pass differ on their own, by halving; all of them if only together."""
        while len(targets) > 1:
            half = len(targets) // 2
            if self.run(targets[:half]) is not None:
                targets = targets[:half]
            elif self.run(targets[half:]) is not None:
                targets = targets[half:]
            else:
                break
        return targets

    def _dims(self, node: Node) -> list[Dim]:
        values = [*node.inputs(), *[value for value in node.outputs if value is not None]]
        return [dim for value in values for dim in self.main.dims[value]]

    def kind(self, path: str) -> str:
        """Class name of a module."""
        return self.graph.classes.get(path, type(self.twin.model).__name__)

    def siblings(self, found: Difference) -> list[Node]:
        """The same operator in every module of the same class, the node itself first."""
        node = found.node
        ordinal = self.ordinals[found.index]
        kind = self.kind(node.module)
        others = [
            self.by_place[(path, ordinal)]
            for path in dict.fromkeys(path for path, _ in self.by_place)
            if path != node.module and self.kind(path) == kind and (path, ordinal) in self.by_place
        ]
        return [node, *[other for other in others if other.op == node.op]]

    def family(self, found: Difference, leaf: Axis) -> list[Axis]:
        """The leaf and those at its place in sibling nodes."""
        addresses = [number for number, dim in enumerate(subtrees(self._dims(found.node))) if dim is leaf]
        family = {leaf: None}
        for node in self.siblings(found)[1:] if addresses else ():
            trees = list(subtrees(self._dims(node)))
            other = trees[addresses[0]] if addresses[0] < len(trees) else None
            if isinstance(other, Axis) and not other.frozen and other.size > 1:
                family[other] = None
        return list(family)

    def share(self, found: Difference, targets: list[Axis]) -> bool:
        """One attribute that stands for two sizes: tie the two dimensions, if giving them one size helps."""
        near = set(leaves_of(self._dims(found.node)))
        pairs = list(self._pairs(found))
        for first in [pair for pair in pairs if any(leaf in near for leaf, _ in pair)]:
            chosen = [match for pair in pairs if len(pair) == len(first) for match in pair] + first
            sizes = self.sizes(targets)
            after = self.run(targets, {leaf: size_of(other, sizes) for leaf, other in chosen})
            if after is None or after.index > found.index:
                for leaf, other in chosen:
                    unify(leaf, other, "one attribute holds both sizes")
                return True
        return False

    def even(self, found: Difference, targets: list[Axis]) -> bool:
        """Parts of one length that code takes as halves or thirds: tie them, if giving them one size helps."""
        chosen: list[tuple[Axis, Axis]] = []
        for node in self.siblings(found):
            for dim in map(resolve, self._dims(node)):
                parts = [part for part in dim.parts if isinstance(part, Axis)] if isinstance(dim, Cat) else []
                free = [part for part in dict.fromkeys(parts) if not part.frozen and part.size > 1]
                chosen += [(other, free[0]) for other in free[1:] if other.size == free[0].size]
        sizes = self.sizes(targets) | self.sizes(list(dict.fromkeys(first for _, first in chosen)))
        after = self.run(targets, {other: sizes[first] for other, first in chosen} | sizes_of_first(chosen, sizes))
        if not chosen or (after is not None and after.index <= found.index):
            return False
        for other, first in chosen:
            unify(other, first, "code takes equal parts")
        return True

    def _pairs(self, found: Difference) -> Iterator[list[tuple[Axis, Dim]]]:
        """Leaves of the node and its siblings, each with the bound dimension it would have to equal."""
        for node in self.siblings(found):
            held = [(binding.old, resolve(binding.dim)) for binding in self._bound(node.module)]
            for dim, (old, other) in itertools.product(subtrees(self._dims(node)), held):
                if old != dim.size or is_frozen(dim) or not differ(dim, other, self.current):
                    continue
                if isinstance(dim, Axis):
                    yield [(dim, other)]
                elif [a.size for a in leaves(dim)] == [b.size for b in leaves(other)]:
                    yield [(a, b) for a, b in zip(leaves(dim), leaves(other)) if a is not b]

    def _bound(self, path: str) -> list[Binding]:
        """Bindings whose attribute a module at `path` reads: its own, or one of the config it shares."""
        config = getattr(self.modules.get(path), "config", None)
        return [
            binding
            for binding in self.graph.bindings
            if (binding.config and config is not None and self.modules[binding.path].config is config)
            or (not binding.config and binding.path == path)
        ]

    def width(self, found: Difference, targets: list[Axis]) -> bool:
        """A width that code reads off the module's input (`reshape(B, N, C)`): tie the two, if giving them one size helps."""
        for pairs in self._widths(found, set(targets)):
            sizes, first = self.sizes(targets), dict(reversed(pairs))
            for leaf, dim in pairs:  # the blocks of a residual stream share its width, so they share their factors
                alike = zip(leaves(dim), leaves(first[leaf]))
                sizes |= {own: sizes[other] for own, other in alike if other in sizes}
                sizes[leaf] = size_of(first[leaf], sizes)
            after = self.run(targets, sizes)
            if after is None or after.index > found.index or self.repair(found, targets, sizes):
                for leaf, dim in pairs:
                    unify(leaf, dim, "code takes this width from its input")
                return True
        return False

    def _widths(self, found: Difference, targets: set[Axis]) -> Iterator[list[tuple[Axis, Dim]]]:
        """Each dimension made by the node, in all its siblings, with a leaf of equal size in the input of their module."""
        inputs = self._inputs()
        for number, tree in enumerate(subtrees(self._dims(found.node))):
            pairs: list[tuple[Axis, Dim]] = []
            for node in self.siblings(found) if targets & set(leaves(tree)) else ():
                dim = next(itertools.islice(subtrees(self._dims(node)), number, None), tree)
                own = set(leaves(dim))
                like = (leaf for leaf in inputs[node.module] if leaf.size == dim.size and leaf not in own)
                pairs += [(leaf, dim) for leaf in itertools.islice(like, 1)]
            if pairs:
                yield pairs

    def _inputs(self) -> dict[str, list[Axis]]:
        """Module -> live leaves that are dimensions of the tensors it is called with."""
        found: dict[str, list[Axis]] = defaultdict(list)
        for call in self.main.trace.calls:
            dims = [resolve(dim) for value in call.inputs for dim in self.main.dims[value]]
            found[call.path] += [dim for dim in dims if isinstance(dim, Axis) and not dim.frozen and dim.size > 1]
        return found

    def repair(self, found: Difference, targets: list[Axis], forced: dict[Axis, int] | None = None) -> bool:
        """Bind an attribute that holds the old size, if that takes the pass beyond this node."""
        for attempt in self._attempts(found):
            self.graph.bindings += attempt
            after = self.run(targets, forced)
            if after is None or after.index > found.index:
                return True
            del self.graph.bindings[-len(attempt) :]
            for binding in attempt:
                write_attribute(self.twin.model, binding, binding.old)
        return False

    def _attempts(self, found: Difference) -> Iterator[list[Binding]]:
        """Attributes that hold an old size, innermost module first."""
        yield from self._sequences(found)
        tried: set[tuple[str, str, int | None, bool, int]] = set()
        trees = list(enumerate(subtrees(self._dims(found.node))))
        parts = found.node.module.split(".")
        for path in [".".join(parts[:count]) for count in range(len(parts), -1, -1)]:
            for holder, (number, dim) in itertools.product(attributes(self.modules.get(path), path), trees):
                new = size_of(dim, self.current)
                key = (path, *holder[:3], new)
                if dim.size == holder[3] and new != dim.size and key not in tried:
                    tried.add(key)
                    yield self._everywhere(found, path, holder, number, dim)

    def _sequences(self, found: Difference) -> Iterator[list[Binding]]:
        """A list or tuple that holds the sizes of all outputs, as splits do, in every sibling that has it."""
        names = {name for name, place, config, _ in self._held(found.node) if place is not None and not config}
        for name in sorted(names):
            made = [binding for node in self.siblings(found) for binding in self._outputs_held(node, name)]
            if made:
                yield made

    def _outputs_held(self, node: Node, name: str) -> Iterator[Binding]:
        parts = [self.main.dims[value] for value in node.outputs if value is not None]
        sizes = list(getattr(self.modules.get(node.module), name, ()))
        for axis in range(len(parts[0]) if parts else 0):
            dims = [resolve(part[axis]) for part in parts if axis < len(part)]
            if len(dims) > 1 and [dim.size for dim in dims] == sizes:
                yield from (Binding(node.module, name, place, False, dim.size, dim) for place, dim in enumerate(dims))

    def _held(self, node: Node) -> list[tuple[str, int | None, bool, int]]:
        return list(attributes(self.modules.get(node.module), node.module))

    def _everywhere(
        self, found: Difference, path: str, holder: tuple[str, int | None, bool, int], number: int, dim: Dim
    ) -> list[Binding]:
        """The binding, and the same one in every sibling module that holds the same kind of size."""
        attribute, place, config, old = holder
        made = [Binding(path, attribute, place, config, old, dim)]
        up = found.node.module[len(path) :]
        for node in self.siblings(found)[1:]:
            other = node.module.removesuffix(up) if up else node.module
            trees = list(subtrees(self._dims(node)))
            if config or number >= len(trees) or (up and not node.module.endswith(up)):
                continue
            wanted = (attribute, place, config, trees[number].size)
            if other != path and wanted in attributes(self.modules.get(other), other):
                made.append(Binding(other, attribute, place, config, wanted[3], trees[number]))
        return made


def _freeze_movements(graph: Graph) -> None:
    """Models too large to try sizes on: what their code may give as a number stays whole."""
    numbers = ("view", "reshape", "split", "split_with_sizes", "expand", "unflatten", "chunk", "slice", "pad", "narrow")
    for one in graph.passes:
        for node in [node for node in one.trace.nodes if node.op in numbers]:
            values = [*node.inputs(), *[value for value in node.outputs if value is not None]]
            for dim in [dim for value in values for dim in one.dims[value]]:
                freeze(dim, f"{node.op} in {node.module or 'the model'}: its sizes could not be tried")
