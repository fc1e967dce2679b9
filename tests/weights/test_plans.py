"""Criteria and solvers of weights through the flow: masks in the layout of the parameters, statistics of the right inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from prunus.core import registry
from prunus.core.budget import Budget
from prunus.core.errors import BadInput
from prunus.flow.matrices import matrix
from prunus.flow.weights import plan_weights
from prunus.prunables.model import ModelPrunable
from prunus.signals.collect import collect


class Stored(nn.Module):
    """A linear layer that stores its weight as [in, out]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.nf = outputs
        self.weight = nn.Parameter(torch.randn(inputs, outputs))

    def forward(self, x):
        return x @ self.weight


class Net(nn.Module):
    """A plain and a grouped convolution, a linear layer, and one stored the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.fc, self.turned = nn.Linear(8, 12), Stored(12, 4)

    def forward(self, x):
        return self.turned(self.fc(self.grouped(self.conv(x).relu()).relu().mean((2, 3))).relu())


@pytest.fixture(scope="module")
def prunable():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ModelPrunable(Net().eval(), torch.zeros(1, 4, 5, 5))


@pytest.fixture(scope="module")
def data():
    x = torch.randn(20, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    return x, torch.arange(20) % 4


@pytest.fixture(scope="module")
def signals(prunable, data):
    return collect(prunable.model, data, ("input_norm", "hessian")).modules


def planned(prunable, method, budget, signals, **settings):
    found = registry.find(f"weights/{method}")
    plan = plan_weights(prunable, found, Budget.parse(budget), signals=signals, **settings)
    return plan, prunable.apply(plan)


CASES = [("50% weights", "all"), ("50% weights", "group"), ("sparsity 50%", "output"), ("2:4", None)]


@pytest.mark.parametrize("method", ["magnitude", "wanda", "lamp", "random"])
@pytest.mark.parametrize(("budget", "within"), CASES)
def test_criteria_keep_what_was_asked_and_change_nothing_else(prunable, signals, method, budget, within):
    plan, sparse = planned(prunable, method, budget, signals, within=within)
    assert plan.planned["weights"] == pytest.approx(0.5 * plan.dense["weights"], abs=1)
    for name in plan.groups:
        before, after = prunable.model.get_parameter(name), sparse.get_parameter(name)
        assert ((after == before) | (after == 0)).all()
        assert int((after != 0).sum()) == plan.groups[name].count


def test_grouped_convolutions_see_the_norms_of_their_own_inputs(prunable, signals):
    group = next(group for group in prunable.groups("weights") if group.name == "grouped.weight")
    norms = matrix(prunable, group, signals).input_norm
    assert norms.shape == (8, 4 * 9)
    assert norms[0].equal(norms[3])
    assert not norms[0].equal(norms[4])


def test_n_of_m_follows_input_channels_in_every_layout(prunable, signals):
    for method in ("magnitude", "sparsegpt"):
        _, sparse = planned(prunable, method, "2:4", signals)
        assert ((sparse.conv.weight != 0).sum(1) == 2).all()
        assert ((sparse.grouped.weight != 0).sum(1) == 2).all()
        assert ((sparse.turned.weight.T.reshape(4, 3, 4) != 0).sum(2) == 2).all()


def test_a_solver_beats_masks_on_the_outputs_it_was_fitted_to(prunable, data, signals):
    target = prunable.model(data[0]).detach()
    errors = {}
    for method in ("random", "wanda", "sparsegpt"):
        plan, sparse = planned(prunable, method, "50% weights", signals, within="group")
        errors[method] = float((sparse(data[0]).detach() - target).square().sum())
    assert plan.planned["weights"] == pytest.approx(0.5 * plan.dense["weights"], abs=4)
    assert errors["sparsegpt"] < errors["wanda"] < errors["random"]


def test_a_solver_refuses_scopes_it_does_not_have(prunable, signals):
    with pytest.raises(BadInput, match="within is group or N:M, not 'output'"):
        planned(prunable, "sparsegpt", "50% weights", signals, within="output")
    with pytest.raises(BadInput, match="give a share"):
        planned(prunable, "sparsegpt", "500 weights", signals)


def test_plans_do_not_depend_on_the_order_of_calls(prunable, signals):
    first = planned(prunable, "sparsegpt", "50% weights", signals)[0].hash()
    planned(prunable, "random", "50% weights", signals, seed=3)
    assert planned(prunable, "sparsegpt", "50% weights", signals)[0].hash() == first
    hashes = {planned(prunable, "random", "50% weights", signals, seed=seed)[0].hash() for seed in (0, 0, 1)}
    assert len(hashes) == 2
    assert np.isfinite(prunable.model.conv.weight.detach().numpy()).all()
