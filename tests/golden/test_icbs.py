"""iCBS: three steps on one layer of a small network against the released step, with its solver's defect and without."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import torch
from torch import nn

from prunus.maths.surgeon import problem, scaled, solve, value
from prunus.prunables.model import ModelPrunable
from prunus.signals.slopes import slopes
from prunus.weights.icbs import Layer, magnitude_start

pytestmark = pytest.mark.golden("icbs--block-steps")


def network(case):
    """The network of the case: linear layers with tanh between them, named as torch's Sequential does."""
    numbers = sorted({int(found[1]) for name in case if (found := re.fullmatch(r"p_(\d+)_weight", name))})
    parts = []
    for number in numbers:
        weight = torch.from_numpy(case[f"p_{number}_weight"])
        parts += [nn.Linear(weight.shape[1], weight.shape[0]), nn.Tanh()]
        parts[-2].weight.data, parts[-2].bias.data = weight, torch.from_numpy(case[f"p_{number}_bias"])
    return nn.Sequential(*parts[:-1]).eval()


def steps(case):
    return sorted({int(found[1]) for name in case if (found := re.match(r"step(\d+)_block", name))})


def options(case):
    return {"first": case.value("grad_multiplier"), "ridge": case.value("ridge_multiplier")}


def layer_at(case, number, model):
    """The layer as it is before a step, with the tabu list of the steps before."""
    layer = Layer("0.weight", model[0].weight.detach().clone(), torch.from_numpy(case["W_init_pruned"]) != 0)
    for before in range(number):
        layer.block(case[f"step{before}_block"], case.tabu)
    layer.kept = torch.from_numpy(case[f"step{number}_w_before"]).reshape(layer.original.shape) != 0
    return layer


@pytest.fixture
def case(case):
    case.tabu = round(0.3 * case["W_init_pruned"].size)  # of the case's description: tabu_frac 0.3
    return case


def test_start(case):
    weight = torch.from_numpy(case["p_0_weight"])
    kept = magnitude_start(weight, round(weight.numel() * case.value("density")))
    np.testing.assert_array_equal(kept, case["W_init_pruned"] != 0)


def test_blocks_gradients_and_problems(case):
    assert steps(case)
    for number in steps(case):
        model = network(case)
        layer = layer_at(case, number, model)
        model[0].weight.data = layer.now
        found = slopes(model, "0", (torch.from_numpy(case["X"]), torch.from_numpy(case["y"])))
        block, count = layer.candidates(found.mean(), case.value("block_size"), case.value("k"))
        np.testing.assert_array_equal(block, case[f"step{number}_block"])
        assert count == case.value(f"step{number}_k")
        rows = found.at(block)
        np.testing.assert_allclose(rows.mean(0), case[f"step{number}_grad"], rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(rows.T @ rows / len(rows), case[f"step{number}_hessian"], rtol=1e-4, atol=1e-7)
        quadratic, const = problem(
            layer.original.flatten()[block],
            layer.now.flatten()[block],
            rows.mean(0),
            rows.T @ rows / len(rows),
            **options(case),
        )
        np.testing.assert_allclose(scaled(quadratic), case[f"step{number}_Q_full"], rtol=1e-4, atol=1e-5)
        released = torch.where(scaled(quadratic) <= 1e-12, 0.0, scaled(quadratic))
        np.testing.assert_allclose(released, case[f"step{number}_Q_official"], rtol=1e-4, atol=1e-5)
        assert const == pytest.approx(case.value(f"step{number}_objective_const"), rel=1e-3)


def quadratics(case, number):
    layer = layer_at(case, number, network(case))
    block = torch.from_numpy(case[f"step{number}_block"])
    parts = (torch.from_numpy(case[f"step{number}_{name}"]) for name in ("grad", "hessian"))
    return problem(layer.original.flatten()[block], layer.now.flatten()[block], *parts, **options(case))


def test_optima_and_objectives(case):
    for number in steps(case):
        quadratic, const = quadratics(case, number)
        count = case.value(f"step{number}_k")
        best = solve(scaled(quadratic), count)
        np.testing.assert_array_equal(best, case[f"step{number}_x_full"])
        stay = torch.zeros(len(best))
        stay[:count] = 1
        chosen = {"x_full": best, "x_official": torch.from_numpy(case[f"step{number}_x_official"]), "no_move": stay}
        for name, x in chosen.items():
            expected = case.value(f"step{number}_objective_{name}")
            assert const + value(quadratic, x) == pytest.approx(expected, rel=1e-3, abs=1e-9)
        released = torch.where(scaled(quadratic) <= 1e-12, 0.0, scaled(quadratic))
        theirs = value(released, torch.from_numpy(case[f"step{number}_x_official"]))
        assert theirs == pytest.approx(value(released, solve(released, count)), abs=1e-5)


def test_swaps_find_what_brute_force_finds(case):
    for number in steps(case):
        quadratic, _ = quadratics(case, number)
        from prunus.maths.surgeon import _greedy, _swapped

        count = case.value(f"step{number}_k")
        start = torch.zeros(len(quadratic), dtype=torch.float64)
        start[:count] = 1
        ends = [_swapped(scaled(quadratic), x) for x in (start, _greedy(scaled(quadratic), count))]
        every = [
            sum(float(scaled(quadratic)[i, j]) for i in chosen for j in chosen)
            for chosen in itertools.combinations(range(len(quadratic)), count)
        ]
        assert min(value(scaled(quadratic), x) for x in ends) == pytest.approx(min(every), rel=1e-6, abs=1e-6)


def test_a_step_moves_only_the_block_and_keeps_the_density(case):
    for number in steps(case):
        model = network(case)
        layer = layer_at(case, number, model)
        before = layer.kept.clone()
        block = torch.from_numpy(case[f"step{number}_block"])
        layer.move(block, torch.from_numpy(case[f"step{number}_x_official"]))
        np.testing.assert_allclose(layer.now, case[f"step{number}_W_after"], rtol=1e-6)
        assert layer.kept.sum() == before.sum()
    assert ModelPrunable(network(case), torch.zeros(1, case["X"].shape[1])).groups("weights")
