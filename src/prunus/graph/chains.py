"""Chains of like blocks: what unit "layers" removes. A block may go if its output looks like its input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from torch import nn

from prunus.core.errors import BadInput, UnknownName
from prunus.core.prunable import Group
from prunus.graph.build import Graph
from prunus.graph.record import Call

COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers", "decoder_layers")


@dataclass(frozen=True, slots=True)
class Chain:
    """A ModuleList or Sequential: its children in order, and which of them may be taken out.

    A row of residual branches is one too (graph.branches): `attends` says whether they hold attention.
    """

    path: str
    children: tuple[str, ...]
    removable: tuple[bool, ...]
    attends: bool = False

    @property
    def fixed(self) -> np.ndarray:
        """Positions that must stay, int64."""
        return np.flatnonzero(~np.asarray(self.removable)).astype(np.int64)


def chains(model: nn.Module, graph: Graph) -> tuple[Chain, ...]:
    """Every container with at least two removable children of one class that run one after the other."""
    calls: dict[str, list[Call]] = {}
    for call in graph.main.trace.calls:
        calls.setdefault(call.path, []).append(call)
    found: list[Chain] = []
    for path, module in model.named_modules():
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and len(module) > 1:
            names = [f"{path}.{name}" if path else name for name, _ in module.named_children()]
            kinds = [type(child) for child in module.children()]
            most = max(set(kinds), key=kinds.count)
            free = [kind is most and _same_shape(graph, calls.get(name, [])) for kind, name in zip(kinds, names)]
            has_weights = any(True for child in module.children() for _ in child.parameters())
            blocks = any(True for child in module.children() for _ in child.children())
            if sum(free) >= 1 and kinds.count(most) >= 2 and has_weights and blocks and _in_order(names, calls):
                found.append(Chain(path, tuple(names), tuple(free)))
    return tuple(found)


def _same_shape(graph: Graph, calls: list[Call]) -> bool:
    values = graph.main.trace.values
    if len(calls) != 1 or not calls[0].inputs or not calls[0].outputs:
        return False
    before, after = values[calls[0].inputs[0]], values[calls[0].outputs[0]]
    return before.shape == after.shape and before.dtype == after.dtype


def _in_order(names: list[str], calls: Mapping[str, list[Call]]) -> bool:
    firsts = [calls[name][0].first for name in names if name in calls]
    return len(firsts) == len(names) and firsts == sorted(firsts)


def chain_groups(model: nn.Module, graph: Graph) -> tuple[Group, ...]:
    """One group per chain, unit layers: ids are positions in the chain; cost is a block's parameters."""
    made: list[Group] = []
    for chain in chains(model, graph):
        sizes = [sum(p.numel() for p in model.get_submodule(name).parameters()) for name in chain.children]
        made.append(Group(chain.path, "layers", len(chain.children), (), float(np.mean(sizes)), "layers"))
    return tuple(made)


def remove_layers(model: nn.Module, known: tuple[Chain, ...], keep: Mapping[str, np.ndarray]) -> None:
    """Take blocks out of their chains, in place; numbers that count layers follow.

    Raises `BadInput` for blocks that cannot go or if a chain would be empty.
    """
    by_path = {chain.path: chain for chain in known}
    for path, ids in keep.items():
        if path not in by_path:
            raise UnknownName("chain of layers", path, by_path)
        chain = by_path[path]
        gone = np.setdiff1d(np.arange(len(chain.children)), ids)
        stuck = [chain.children[place] for place in gone if not chain.removable[place]]
        if stuck or not len(ids):
            raise BadInput(f"{', '.join(stuck) or path} cannot be taken out: output and input differ in shape")
        container = model.get_submodule(path)
        _drop(container, gone)
        _renumber(model, container, path, chain, np.asarray(ids))


def _drop(container: nn.Module, gone: np.ndarray) -> None:
    if isinstance(container, nn.Sequential) and not all(name.isdigit() for name in container._modules):  # pyright: ignore[reportPrivateUsage]
        for name in [list(container._modules)[place] for place in gone]:  # pyright: ignore[reportPrivateUsage]
            del container._modules[name]  # pyright: ignore[reportPrivateUsage]
        return
    for place in sorted(gone.tolist(), reverse=True):
        del cast("nn.ModuleList", container)[place]


def _renumber(model: nn.Module, container: nn.Module, path: str, chain: Chain, ids: np.ndarray) -> None:
    """layer_idx of the blocks, and lists and counts of layers in configs and owners."""
    before, after = len(chain.children), len(ids)
    parts = [(place, part) for place, child in enumerate(container.children()) for part in child.modules()]
    for place, part in parts:
        if isinstance(vars(part).get("layer_idx"), int):
            vars(part)["layer_idx"] = place
    owner = model.get_submodule(path.rpartition(".")[0])
    for holder in _holders(model, owner):
        for name, item in list(vars(holder).items()):
            if name in COUNTS and item == before and not isinstance(item, bool):
                setattr(holder, name, after)
            elif name == "layer_types" and isinstance(item, list) and len(item) == before:
                setattr(holder, name, [item[place] for place in ids])


def _holders(model: nn.Module, owner: nn.Module) -> Iterator[Any]:
    seen: list[Any] = []
    for holder in (owner, getattr(owner, "config", None), getattr(model, "config", None)):
        if holder is not None and all(holder is not other for other in seen) and hasattr(holder, "__dict__"):
            seen.append(holder)
            yield holder
