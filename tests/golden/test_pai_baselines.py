"""SNIP, GraSP, SynFlow and magnitude: scores and masks of the released unified code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunus.core import registry
from prunus.core.budget import Budget
from prunus.flow.matrices import score_weights
from prunus.flow.search import plan_search
from prunus.flow.weights import plan_weights
from prunus.graph.trace import run
from prunus.prunables.model import ModelPrunable
from prunus.signals.collect import collect
from prunus.signals.synflow import Flow
from prunus.train.step import Step

pytestmark = pytest.mark.golden("pai-baselines--scores-and-masks")
MATRICES = ("c1.weight", "c2.weight", "fc.weight")


class Net(nn.Module):
    """Two convolutions, the second with stride 2, and a linear layer."""

    def __init__(self, weights):
        super().__init__()
        first, second, last = (weights[name] for name in MATRICES)
        self.c1 = nn.Conv2d(first.shape[1], first.shape[0], 3, padding=1)
        self.c2 = nn.Conv2d(second.shape[1], second.shape[0], 3, padding=1, stride=2)
        self.fc = nn.Linear(last.shape[1], last.shape[0])
        self.double().load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})

    def forward(self, x):
        return self.fc(self.c2(self.c1(x).relu()).relu().flatten(1))


@pytest.fixture
def prunable(case):
    return ModelPrunable(Net(case.part("param")).eval(), torch.from_numpy(case["X"])[:1])


def batches(case):
    """The two batches of the case."""
    x, y = torch.from_numpy(case["X"]), torch.from_numpy(case["Y"])
    return [(x[:8], y[:8]), (x[8:], y[8:])]


def added(case, temperature=1.0):
    """A step whose mean over all rows is a part of the sum of the batches' means, which is what the released code derives."""

    def step(model, batch):
        logits = model(batch[0])
        loss = F.cross_entropy(logits / temperature, batch[1], reduction="none") * (len(case["X"]) / len(batch[1]))
        return Step(None, logits, batch[1], loss)

    return step


def signals(prunable, case, method):
    temperature = float(case["hyper"][2])
    name, step = ("grad", added(case)) if method == "snip" else ("hessian_gradient", added(case, temperature))
    return collect(prunable.model, batches(case), name, step=step, temperature=1.0).modules


def scores(prunable, case, method):
    found = registry.find(method, unit="weights", kind="criterion")
    score = score_weights(prunable, found, signals=None if method == "magnitude" else signals(prunable, case, method))
    return {name: np.asarray(score.values[name]) for name in MATRICES}


def budget_of(case):
    """The share of the case, without a floor: all but int((1 - density) * N) weights stay."""
    return Budget.parse(f"{100 * float(case['hyper'][0]):.12g}% weights", floor=0)


@pytest.mark.parametrize(("method", "rule"), [("magnitude", "mag"), ("snip", "snip"), ("grasp", "grasp")])
def test_scores(prunable, case, method, rule):
    found = scores(prunable, case, method)
    total = sum(values.sum() for values in found.values())
    divisor = {"mag": 1.0, "snip": total, "grasp": abs(total) + 1e-10}[rule]
    for name, values in found.items():
        expected = case[f"{rule}/score/{name}"]
        np.testing.assert_allclose(values.reshape(expected.shape) / divisor, expected, rtol=1e-7, err_msg=name)


@pytest.mark.parametrize(("method", "rule"), [("magnitude", "mag"), ("snip", "snip"), ("grasp", "grasp")])
def test_masks(prunable, case, method, rule):
    found = registry.find(method, unit="weights", kind="criterion")
    given = None if method == "magnitude" else signals(prunable, case, method)
    plan = plan_weights(prunable, found, budget_of(case), signals=given, within="all", minimum=0)
    for name in MATRICES:
        np.testing.assert_array_equal(plan.groups[name].mask(), case[f"{rule}/mask/{name}"].reshape(-1).astype(bool))


def test_the_signal_divides_logits_by_the_temperature(prunable, case):
    temperature, one = float(case["hyper"][2]), batches(case)[:1]
    own = collect(prunable.model, one, "hessian_gradient", temperature=temperature).modules
    step = added({"X": one[0][0]}, temperature)
    given = collect(prunable.model, one, "hessian_gradient", step=step, temperature=1.0).modules
    for name in MATRICES:
        module = name.removesuffix(".weight")
        torch.testing.assert_close(own[module].hessian_gradient, given[module].hessian_gradient, rtol=1e-9, atol=1e-30)


RULES = {"synflow": ("exponential", None), "synflow_linear": ("linear", None), "synflow_oneshot": ("exponential", 1)}


@pytest.mark.parametrize("rule", RULES)
def test_flow(prunable, case, rule):
    course, rounds = RULES[rule]
    flow = Flow(prunable.model, prunable.example, run).scores()
    for name in MATRICES:
        np.testing.assert_allclose(flow[name].numpy(), case[f"{rule}/score/{name}"], rtol=1e-7)
    options = {"course": course, "rounds": rounds or int(case["hyper"][1])}
    plan = plan_search(prunable, registry.find("weights/synflow"), budget_of(case), options=options)
    for name in MATRICES:
        np.testing.assert_array_equal(plan.groups[name].mask(), case[f"{rule}/mask/{name}"].reshape(-1).astype(bool))
