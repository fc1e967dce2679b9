"""Recurrent networks whose layers and connections are those of a random graph (Darji 2021, second part).

A connected undirected graph becomes acyclic: every edge leads from the lower to the higher node. A node stands one layer above its highest
parent; nodes without parents are layer 0. A layer's input weights exist where the graph has an edge from the layer before; edges that skip
layers are recurrent layers of their own, whose outputs are added. Hidden weights inside a layer are dense.

Departure: skipping layers start from their own zero state and keep their own; the released code reads the target's state there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput, UnknownName

Edge = tuple[int, int]
CELLS: dict[str, tuple[Callable[..., nn.RNNBase], int]] = {"rnn": (nn.RNN, 1), "gru": (nn.GRU, 3), "lstm": (nn.LSTM, 4)}


@dataclass(frozen=True)
class Layering:
    """An acyclic graph in layers.

    Attributes:
        layers: the nodes of each layer, ascending.
        edges: (lower, higher) node, sorted.
    """

    layers: tuple[tuple[int, ...], ...]
    edges: tuple[Edge, ...]

    def mask(self, source: int, target: int) -> Tensor:
        """bool `[nodes of the target layer, nodes of the source layer]`, True where there is an edge."""
        below, above = self.layers[source], self.layers[target]
        held = set(self.edges)
        return torch.tensor([[(low, high) in held for low in below] for high in above], dtype=torch.bool)


def layered(nodes: int, edges: Iterable[Edge]) -> Layering:
    """Orient the edges and find the layer of every node.

    Args:
        nodes: how many; they are 0..nodes-1.
        edges: of an undirected graph, either end first.

    Raises:
        BadInput: an edge from a node to itself, or to none of the nodes.
    """
    pairs = {(min(edge), max(edge)) for edge in edges}
    for low, high in pairs:
        if not 0 <= low < high < nodes:
            raise BadInput(f"edge {low}-{high} does not join two of {nodes} nodes")
    depth = [0] * nodes
    for high in range(nodes):  # parents are lower, so they are settled
        depth[high] = max((depth[low] + 1 for low, end in pairs if end == high), default=0)
    layers = tuple(tuple(n for n in range(nodes) if depth[n] == at) for at in range(max(depth, default=0) + 1))
    return Layering(layers, tuple(sorted(pairs)))


def random_graph(
    kind: Literal["watts_strogatz", "barabasi_albert"],
    nodes: int,
    seed: int,
    *,
    neighbours: int = 4,
    rewire: float = 0.5,
    attach: int = 2,
) -> Layering:
    """A connected random graph in layers; networkx draws it.

    Args:
        kind: small world (Watts and Strogatz), or preferential attachment (Barabasi and Albert).
        nodes: how many.
        seed: of the draw.
        neighbours, rewire: of small worlds: neighbours joined at first, share of edges that move.
        attach: edges of each new node under preferential attachment.
    """
    import networkx  # torch brings it

    if kind == "watts_strogatz":
        graph = networkx.connected_watts_strogatz_graph(nodes, neighbours, rewire, tries=100, seed=seed)
    elif kind == "barabasi_albert":
        graph = networkx.barabasi_albert_graph(nodes, attach, seed=seed)
    else:
        raise UnknownName("kind of random graph", kind, ("watts_strogatz", "barabasi_albert"))
    return layered(nodes, graph.edges())


class GraphRNN(nn.Module):
    """Recurrent layers joined as a graph says.

    Args:
        layering: of the graph; one hidden unit for each node.
        inputs: width of the sequence's items, which all nodes of layer 0 read.
        cell: rnn, gru or lstm.

    Attributes:
        masks: parameter name -> bool: give them to `train.masks.Masks`, or weights that the graph does not have are trained.
    """

    def __init__(self, layering: Layering, inputs: int, cell: str = "gru") -> None:
        super().__init__()
        if cell not in CELLS:
            raise UnknownName("recurrent cell", cell, CELLS)
        kind, gates = CELLS[cell]
        widths = [len(layer) for layer in layering.layers]
        self.steps = nn.ModuleList(
            kind(before, width, batch_first=True) for before, width in zip([inputs, *widths], widths)
        )
        self.skips = nn.ModuleDict()
        self.masks: dict[str, Tensor] = {}
        for target in range(1, len(widths)):
            for source in range(target):
                edges = layering.mask(source, target)
                if not edges.any():
                    continue
                name = f"steps.{target}" if source == target - 1 else f"skips.{source}_{target}"
                if name.startswith("skips"):
                    self.skips[f"{source}_{target}"] = kind(widths[source], widths[target], batch_first=True)
                self.masks[f"{name}.weight_ih_l0"] = edges.repeat(gates, 1)
        with torch.no_grad():
            for name, mask in self.masks.items():
                self.get_parameter(name).mul_(mask)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T, inputs]` -> `[B, T, nodes of the last layer]`."""
        outputs: list[Tensor] = []
        for target, layer in enumerate(self.steps):
            x = _sequence(layer, x)
            for source in range(target - 1):
                if f"{source}_{target}" in self.skips:
                    x = x + _sequence(self.skips[f"{source}_{target}"], outputs[source])
            outputs.append(x)
        return x


def _sequence(layer: Any, x: Tensor) -> Tensor:
    return layer(x)[0]
