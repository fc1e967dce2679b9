"""Dependency groups, group importance and 50 % pruning of one small network, against torch-pruning 1.6.1.

One difference is by design. A grouped convolution shares its weight columns between blocks, so a channel can only go
together with the channels at the same place of the other blocks: our groups hold these partners, the reference's
queries do not (its pruner adds them later). The tests close the reference's sets under that rule.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunus.graph.build import build
from prunus.graph.cut import cut
from prunus.graph.members import bind
from prunus.graph.prove import prove

pytestmark = pytest.mark.golden("torch-pruning--groups")


class Net(nn.Module):
    """The network of the case: residual, concat, depthwise, grouped convolution, flatten."""

    def __init__(self, p: dict[str, np.ndarray]) -> None:
        super().__init__()
        width = len(p["dw.weight"])
        self.conv1, self.conv2 = _conv(p, "conv1"), _conv(p, "conv2")
        self.conv3, self.conv4 = _conv(p, "conv3"), _conv(p, "conv4")
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(len(p[f"bn{k}.weight"])) for k in (1, 2, 3))
        self.dw = _conv(p, "dw", width)
        self.gconv = _conv(p, "gconv", width // p["gconv.weight"].shape[1])
        self.fc1, self.fc2 = (nn.Linear(*reversed(p[f"fc{k}.weight"].shape)) for k in (1, 2))
        self.load_state_dict({name: torch.from_numpy(value) for name, value in p.items()}, strict=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = F.relu(self.bn1(self.conv1(x)))
        b = F.relu(self.bn2(self.conv2(a)) + a)
        c = torch.cat([self.conv3(b), self.conv4(b)], 1)
        e = F.relu(self.gconv(F.relu(self.bn3(self.dw(c)))))
        return self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(e, 2).flatten(1))))


def _conv(p: dict[str, np.ndarray], name: str, groups: int = 1) -> nn.Conv2d:
    out, inner, size, _ = p[f"{name}.weight"].shape
    return nn.Conv2d(inner * groups, out, size, padding=size // 2, groups=groups)


@pytest.fixture
def net(case):
    return Net({key[6:]: case[key] for key in case if key.startswith("param:")}).eval()


@pytest.fixture
def graph(net, case):
    return build(net, torch.from_numpy(case["input"]))


def _dropped(graph, root, ids):
    """(layer, side) -> dropped positions, when these outputs of the root go."""
    from prunus.graph.axes import leaves, mask_of, units_of

    masks = {}
    dim = graph.tensors[f"{root}.weight"][0]
    for leaf in set(leaves(dim)) & set(graph.axes.values()):
        masks[leaf] = ~np.isin(np.arange(leaf.size), units_of(dim, leaf)[ids])
    found = {}
    for name, dims in graph.tensors.items():
        layer, _, own = name.partition(".")
        if own == "weight":
            found[(layer, "out")] = set(np.flatnonzero(~mask_of(dims[0], masks)))
        if name in graph.reads:
            found[(layer, "in")] = set(np.flatnonzero(~mask_of(graph.reads[name], masks)))
    return found


def _closed(net, layer, side, ids):
    """Positions along the concatenation (the grouped convolution's input) with their partners in the other blocks."""
    limits = {"conv3": net.conv3.out_channels, "conv4": net.conv4.out_channels}
    if (layer in limits and side == "in") or (layer, side) == ("gconv", "out"):
        return set(ids)
    width, blocks = net.gconv.in_channels, net.gconv.groups
    start = net.conv3.out_channels if layer == "conv4" else 0
    size = width // blocks
    partners = {(start + i) % size + block * size for i in ids for block in range(blocks)}
    return {place - start for place in partners if 0 <= place - start < limits.get(layer, width)}


def test_same_output(net, case):
    np.testing.assert_allclose(net(torch.from_numpy(case["input"])).detach(), case["output"], atol=1e-6)


def test_coupled_indices(net, graph, case):
    rows, index = case["group_rows"], case["group_idx"]
    for root, query in zip(case["group_query"], case["group_query_idx"]):
        asked = [i for i in query.tolist() if i >= 0]
        ours = _dropped(graph, str(root), asked)
        for (own, layer, side), ids in zip(rows, index):
            if own != root:
                continue
            expected = {i for i in ids.tolist() if i >= 0}
            if root in ("conv3", "conv4"):
                small = _small(graph, str(root), asked)
                expected = _closed(net, str(layer), str(side), expected)
                if small:  # a piece of a single channel is never dropped on its own
                    assert ours[(layer, side)] <= expected
                    continue
            elif root == "gconv":
                expected = expected | _partners(net, str(layer), expected)
            assert ours[(layer, side)] == expected, (root, layer, side)


def _small(graph, root, ids):
    from prunus.graph.axes import leaves, units_of

    dim = graph.tensors[f"{root}.weight"][0]
    named = set(graph.axes.values())
    owned = [leaf for leaf in leaves(dim) if leaf in named]
    return any(all(units_of(dim, leaf)[i] < 0 for leaf in owned) for i in ids)


def _partners(net, layer, ids):
    """Outputs of the grouped convolution at the same place of other blocks; fc1 reads `taps` columns of each."""
    taps = net.fc1.in_features // net.gconv.out_channels if layer == "fc1" else 1
    width, blocks = net.gconv.out_channels, net.gconv.groups
    size = width // blocks
    return {((i // taps) % size + block * size) * taps + i % taps for i in ids for block in range(blocks)}


def _importance(net, graph, root, reduce):
    """Group L2 of each output channel of the root, from the members."""
    group = next(one for one in graph.groups if any(s.parameter == f"{root}.weight" and s.axis == 0 for s in one.slots))
    bound = bind(group, net)
    place = next(s.index for s in group.slots if s.parameter == f"{root}.weight" and s.axis == 0)
    parts = []
    for member in (*bound.vectors, *bound.writers, *bound.readers):
        if not member.name.endswith("weight"):
            continue
        square = member.weight.double().square().sum(2)
        width = square.shape[1] // place.shape[1]
        columns = square.reshape(*place.shape, width)
        apart = reduce == "max" and member.name == "fc1.weight"  # the reference's max sees flattened columns one by one
        parts.append((member.name, (columns.amax(2) if apart else columns.sum(2)).numpy()))
    stack = np.stack([part for _, part in parts])
    if reduce == "first":
        stack = stack[[next(i for i, (name, _) in enumerate(parts) if name == f"{root}.weight")]]
    value = {"mean": stack.mean, "sum": stack.sum, "max": stack.max, "first": stack.sum}[reduce](0)
    flat = np.empty(net.get_submodule(root).out_channels if root != "fc1" else net.fc1.out_features)
    flat[place.reshape(-1)] = value.reshape(-1)
    return flat


@pytest.mark.parametrize("reduce", ["mean", "sum", "max", "first"])
@pytest.mark.parametrize("root", ["conv1", "gconv", "fc1"])
def test_importance(net, graph, case, root, reduce):
    expected = case[f"imp_{reduce}_{'mean' if reduce == 'mean' else 'none'}:{root}"]
    ours = _importance(net, graph, root, reduce)
    ours = ours / ours.mean() if reduce == "mean" else ours
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def _keep(net, graph, case, kind):
    """Kept units of the groups whose channels stand alone, read from the reference's result."""
    keep = {}
    for root in ("conv1", "gconv", "fc1"):
        name = f"{root}.weight:0"
        size = graph.axes[name].size
        score = _importance(net, graph, root, "mean")
        place = next(
            s.index for g in graph.groups if g.name == name for s in g.slots if s.parameter == f"{root}.weight"
        )
        value = score[place].mean(1)
        count = len(case[f"{kind}:{root}.weight"]) // place.shape[1]
        keep[name] = np.sort(np.argsort(-value, kind="stable")[:count])
        assert 0 < count <= size
    return keep


@pytest.mark.parametrize("kind", ["local50", "global50"])
def test_pruned_tensors(net, graph, case, kind):
    keep = _keep(net, graph, case, kind)
    small = cut(net, graph, keep).state_dict()
    for name in ("conv1.weight", "bn1.bias", "conv2.weight", "bn2.weight", "fc1.bias", "fc2.weight", "gconv.bias"):
        np.testing.assert_array_equal(small[name], case[f"{kind}:{name}"])
    np.testing.assert_array_equal(small["fc1.weight"], case[f"{kind}:fc1.weight"])
    for name in ("conv3.bias", "conv4.bias"):
        rows = [case[f"param:{name}"].tolist().index(value) for value in case[f"{kind}:{name}"].tolist()]
        layer = name.partition(".")[0]
        np.testing.assert_array_equal(small[f"{layer}.weight"][rows], case[f"{kind}:{layer}.weight"])


def test_mask_equivalence(net, graph, case):
    rng = np.random.default_rng(0)
    keep = {g.name: np.sort(rng.permutation(g.size)[: max(1, g.size // 2)]) for g in graph.groups}
    net.double()
    assert prove(net, graph, keep, torch.from_numpy(case["input"]).double()) < 1e-9
