"""Models as people have them: nested inputs, branches in Python, computed weights, hooks, compiled, on meta, cut before."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import prunus as px
from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.prunables.model import ModelPrunable

X = torch.linspace(-1, 1, 2 * 3 * 64).view(2, 3, 8, 8)


class Net(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, width, 3, padding=1)
        self.b = nn.Conv2d(width, width, 3, padding=1)
        self.f = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.f(F.relu(self.b(F.relu(self.a(x)))).mean((2, 3)))


class Nested(Net):
    def forward(self, batch: dict[str, Any], *, scale: float = 1.0) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return {"out": super().forward(batch["image"]["x"] * scale)}


class Branches(Net):
    """Takes the one or the other way by what it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.rare = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.rare(x) if x.sum() > 1e9 else x)


class Twice(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.f(F.relu(self.b(F.relu(self.b(self.a(x))))).mean((2, 3)))


class Table(Net):
    """A table that only positions of the input share: nothing writes or reads its axes."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.ones(3, 32, 32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x + self.places[:, :8, :8])


def seeded(kind: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind()


def params(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def halved(model: nn.Module, example: Any = X) -> nn.Module:
    small = px.plan(model, "l1", "50% params", example=example).apply(model)
    assert params(small) < 0.6 * params(model)
    return small


def test_nested_and_keyword_inputs():
    example = {"batch": {"image": {"x": X}}, "scale": 2.0}
    assert halved(seeded(Nested), example)(**example)["out"].shape == (2, 10)


def test_branches_in_python_cut_the_path_that_was_seen():
    model = seeded(Branches)
    small = halved(model)
    assert small.rare.weight.shape == model.rare.weight.shape  # never run: left whole
    assert ModelPrunable(model, X).check()["unseen"] == ["rare.bias", "rare.weight"]


KINDS = [
    torch.nn.utils.parametrizations.weight_norm,
    torch.nn.utils.parametrizations.spectral_norm,
    nn.utils.weight_norm,
]


@pytest.mark.parametrize("kind", KINDS)
def test_computed_weights_are_cut(kind: Any):
    model = seeded(Net)
    with pytest.warns() if kind is nn.utils.weight_norm else torch.no_grad():
        kind(model.b)
    small = halved(model)
    assert small(X).shape == (2, 10)
    whole = kind is KINDS[1]  # its power iteration reads all outputs at once
    assert (small.b.weight.shape[0] == 16) == whole
    assert {name for name, _ in small.named_parameters()} == {name for name, _ in model.named_parameters()}


def test_a_module_used_twice_has_one_width():
    small = halved(seeded(Twice))
    assert small.b.weight.shape[0] == small.b.weight.shape[1] == small.a.weight.shape[0]


def test_what_nothing_writes_or_reads_is_frozen():
    with pytest.raises(BudgetUnreachable, match="params"):
        px.plan(seeded(Table), "l1", "20% params", example=X)
    small = px.plan(seeded(Table), "l1", "80% params", example=X).apply(seeded(Table))
    assert small.places.shape == (3, 32, 32)


def test_hooks_stay_and_compiled_models_are_cut():
    model, calls = seeded(Net), []
    model.a.register_forward_hook(lambda *given: calls.append(1))
    small = halved(model)
    calls.clear()
    small(X)
    assert len(calls) == 1
    compiled = torch.compile(seeded(Net))
    assert params(halved(compiled)) < params(compiled)


def test_a_plan_of_shapes_alone_fits_the_real_model():
    with torch.device("meta"):
        shapes = Net()
    plan = px.plan(shapes, "random", "50% params", example=X.to("meta"))
    assert next(plan.apply(shapes).parameters()).is_meta
    real = seeded(Net)
    small = plan.apply(real)
    assert plan.planned["params"] == params(small)
    assert small(X).shape == (2, 10)
    with pytest.raises(BadInput, match="meta device"):
        px.plan(shapes, "l1", "50% params", example=X.to("meta"))


def test_a_cut_model_is_cut_again_and_reloads(tmp_path: Any):
    dense = seeded(Net)
    first = px.plan(dense, "l1", "70% params", example=X)
    once = first.apply(dense)
    second = px.plan(once, "l1", "50% params", example=X)
    twice = second.apply(once)
    px.save(twice, second, tmp_path)
    torch.testing.assert_close(px.load(tmp_path, like=dense)(X), twice(X))
    with pytest.raises(BadInput, match="dense original"):
        second.after(first)


def test_nothing_of_the_users_model_changes():
    model = seeded(Net).train()
    before = copy.deepcopy(model.state_dict())
    halved(model)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
