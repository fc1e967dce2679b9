"""Recording leaves a model as it was, and says what it could not see."""

from __future__ import annotations

import copy
import gc
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from graph.zoo import make
from prunus.core.errors import BadInput
from prunus.graph.build import build
from prunus.graph.record import record
from prunus.graph.rules import known


class Caching(nn.Module):
    """Keeps a table between calls, and needs data when asked to."""

    def __init__(self, data: bool) -> None:
        super().__init__()
        self.fc1, self.fc2, self.table, self.data = nn.Linear(4, 6), nn.Linear(6, 3), None, data
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        if self.table is None:
            self.table = torch.ones(4) * self.fc1.weight.sum()
        if self.data and float(x.sum()) > 1e9:
            return x
        return self.fc2(F.relu(self.fc1(x * self.table)))


@pytest.mark.parametrize("data", [False, True])
def test_model_is_left_as_it_was(data):
    model = Caching(data).train()
    state = copy.deepcopy(model.state_dict())
    graph = build(model, torch.randn(2, 4))
    assert graph.fake is not data
    assert graph.groups
    assert model.training
    assert model.table is None
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    model(torch.randn(2, 4)).sum().backward()
    copy.deepcopy(model.zero_grad())


def test_failing_forward_says_where():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 2))
    with pytest.raises(BadInput, match=r"linear in module 1"):
        build(model, torch.randn(1, 4))


def test_no_activation_is_kept_alive():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    kept = []
    model[0].register_forward_hook(lambda m, i, o: kept.append(weakref.ref(o)))
    graph = build(model, torch.randn(1, 4), fake=False)
    gc.collect()
    assert graph.main.trace.nodes
    assert all(ref() is None for ref in kept)


@pytest.mark.parametrize("kind", ["tuple", "dict", "nested"])
def test_inputs_of_any_structure(kind):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x, y=None, extra=None):
            y = extra["y"][0] if extra is not None else y
            return {"out": self.b(self.a(x) + self.a(y))}

    x, y = torch.randn(2, 4), torch.randn(2, 4)
    example = {"tuple": (x, y), "dict": {"x": x, "y": y}, "nested": {"x": x, "extra": {"y": [y]}}}[kind]
    assert [group.size for group in build(Two().eval(), example).groups] == [6]


class Auxiliary(nn.Module):
    """A head that only runs in training, and a layer that never runs."""

    def __init__(self, dead: bool) -> None:
        super().__init__()
        self.body, self.head, self.aux = nn.Linear(4, 6), nn.Linear(6, 2), nn.Linear(6, 3)
        if dead:
            self.dead = nn.Linear(9, 6)

    def forward(self, x):
        x = self.body(x)
        return (self.head(x), self.aux(x)) if self.training else self.head(x)


def test_training_branches_are_tied():
    graph = build(Auxiliary(False).eval(), torch.randn(2, 4))
    assert not graph.unseen
    assert ("aux.weight", 1) in {(slot.parameter, slot.axis) for slot in graph.groups[0].slots}


def test_unseen_parameters_are_named_and_what_they_may_share_is_frozen():
    graph = build(Auxiliary(True).eval(), torch.randn(2, 4))
    assert graph.unseen == ("dead.bias", "dead.weight")
    assert not graph.groups
    assert "dead" in graph.frozen[("body.weight", 0)]


def test_unregistered_tensors_are_sliced():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.scale = nn.Linear(4, 6), nn.Linear(6, 2), torch.rand(6)

        def forward(self, x):
            return self.b(self.a(x) * self.scale)

    from prunus.graph.cut import cut

    model = Scaled().eval()
    graph = build(model, torch.randn(2, 4))
    small = cut(model, graph, {"a.weight:0": torch.tensor([0, 4]).numpy()})
    assert torch.equal(small.scale, model.scale[[0, 4]])


def test_a_model_is_recorded_in_one_pass_of_whole_operators():
    model, example = make("vit")
    trace, twin = record(model, example, known)
    assert twin is not None
    assert {"linear", "layer_norm", "scaled_dot_product_attention"} <= {node.op for node in trace.nodes}
    assert all(value.kind for value in trace.values)


class DroppedAtRandom(nn.Module):
    """Training that shapes alone can't follow: a layer is left out by a number that is drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 6), nn.Linear(6, 2)
        self.token = nn.Parameter(torch.ones(6))

    def forward(self, x):
        x = self.body(x)
        if self.training and torch.rand([]) < 2:
            x[torch.from_numpy(np.random.rand(len(x)) < 0.5)] = self.token
        return self.head(x)


def test_training_that_needs_numbers_is_recorded_for_real_and_draws_apart():
    model, x = DroppedAtRandom().eval(), torch.randn(2, 4)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    graph = build(model, x)
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()
    assert not graph.unseen
    (group,) = graph.groups
    assert {slot.parameter for slot in group.slots} >= {"body.weight", "head.weight", "token"}


class Keeps(nn.Module):
    """Reads a table once and keeps what it read until it is trained again."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 6), nn.Linear(6, 2)
        self.table, self.kept = nn.Parameter(torch.rand(6, 3)), {}

    def train(self, mode=True):
        super().train(mode)
        if mode:
            self.kept = {}
        return self

    def forward(self, x):
        if self.training:
            return self.head(self.body(x) + self.table[:, [1]].flatten())
        if "read" not in self.kept:
            self.kept["read"] = self.table[:, [1]].flatten()
        return self.head(self.body(x) + self.kept["read"])


def test_what_a_model_keeps_from_evaluation_is_neither_recorded_nor_copied():
    from prunus.graph.cut import cut
    from prunus.graph.prove import prove

    model, x = Keeps().eval(), torch.randn(2, 4)
    with torch.no_grad():
        before = model(x)
    graph = build(model, x)
    assert not graph.unseen
    keep = {graph.groups[0].name: np.array([0, 2, 5])}
    assert prove(model, graph, keep, x) < 1e-5
    assert cut(model, graph, keep)(x).shape == (2, 2)
    assert model.kept and not model.training
    torch.testing.assert_close(model(x), before)
