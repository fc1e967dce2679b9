"""Recurrent networks from graphs: layers, exactly the graph's edges, masks that hold while training."""

from __future__ import annotations

import pytest
import torch

from prunus.core.errors import BadInput, UnknownName
from prunus.train.graph_rnn import GraphRNN, layered, random_graph
from prunus.train.masks import Masks


def test_layers_of_a_small_graph():
    found = layered(5, [(1, 0), (1, 2), (0, 2), (3, 4), (2, 4)])
    assert found.layers == ((0, 3), (1,), (2,), (4,))
    assert found.edges == ((0, 1), (0, 2), (1, 2), (2, 4), (3, 4))
    assert found.mask(0, 1).tolist() == [[True, False]]
    assert found.mask(0, 3).tolist() == [[False, True]]
    with pytest.raises(BadInput, match="2-2"):
        layered(3, [(2, 2)])


@pytest.mark.parametrize("kind", ["watts_strogatz", "barabasi_albert"])
@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_masks_are_the_edges_times_the_gates(kind, cell, gates):
    graph = random_graph(kind, 14, 3)
    assert graph == random_graph(kind, 14, 3) != random_graph(kind, 14, 4)
    depth = {node: at for at, layer in enumerate(graph.layers) for node in layer}
    assert all(depth[low] < depth[high] for low, high in graph.edges)
    net, x = GraphRNN(graph, 6, cell), torch.randn(2, 5, 6)
    assert sum(int(mask.sum()) for mask in net.masks.values()) == gates * len(graph.edges)
    assert len(net.masks) == len(net.skips) + len(graph.layers) - 1
    engine = torch.optim.Adam(net.parameters(), 0.01)
    Masks(net, net.masks).attach(engine)
    before = net(x)
    assert before.shape == (2, 5, len(graph.layers[-1]))
    before.square().sum().backward()
    engine.step()
    assert not torch.equal(net(x), before)
    for name, mask in net.masks.items():
        assert not net.get_parameter(name)[~mask].any()


def test_a_skipping_edge_reaches_its_target():
    net, x = GraphRNN(layered(3, [(0, 1), (1, 2), (0, 2)]), 2, "rnn"), torch.randn(1, 4, 2)
    before = net(x)
    with torch.no_grad():
        net.skips["0_2"].weight_ih_l0.zero_()
    assert not torch.equal(net(x), before)
    with pytest.raises(UnknownName, match="cell"):
        GraphRNN(layered(2, [(0, 1)]), 2, "mgu")
