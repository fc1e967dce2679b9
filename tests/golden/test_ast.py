"""AST's parts against the released layer, optimizer and losses: masks, gradients, paths, steps, distillation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from prunus.signals.collect import collect
from prunus.train.distillation import divergence, hidden_gap
from prunus.train.sr_ste import DecayingAdamW, Pattern, Straight, ramp

pytestmark = pytest.mark.golden("ast--sparse-train")
PATTERN = Pattern(nm=(2, 4))


@pytest.fixture
def layer(case):
    weight = torch.from_numpy(case["W"].copy())
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        made.weight.copy_(weight)
    part = Straight(made.weight, PATTERN, stored=False, width=case.value("slorb_k"))
    parametrize.register_parametrization(made, "weight", part)
    return made, part


def close(ours, theirs, **options):
    found = ours.detach().numpy() if isinstance(ours, torch.Tensor) else ours
    np.testing.assert_allclose(found, theirs, **{"rtol": 1e-5, "atol": 1e-6, **options})


def test_mask_and_flips(case, layer):
    _, part = layer
    np.testing.assert_array_equal(part.mask, case["mask_keep"])
    part.update(torch.from_numpy(case["W_later"]))
    np.testing.assert_array_equal(part.mask, case["mask_keep_later"])
    assert part.flips == (case.value("flips_vs_previous"), case.value("flips_vs_initial"))


def test_path(case, layer):
    _, part = layer
    close(part.projection(), case["slorb_projection"])
    close(part.path, case["slorb_weight"])
    pruned = torch.from_numpy(case["W"] * ~case["mask_keep"])
    for shift in (-0.01, 0.01):  # the mean is the best constant
        blocks = pruned.unflatten(1, (-1, case.value("slorb_k")))
        best = (blocks - part.path.detach()[..., None]).square().sum()
        assert best <= (blocks - part.path.detach()[..., None] - shift).square().sum()


def test_outputs_and_gradients(case, layer):
    made, part = layer
    x = torch.from_numpy(case["x"]).requires_grad_()
    y = made(x)
    close(y, case["y"])
    (y * torch.from_numpy(case["grad_y"])).sum().backward()
    close(made.parametrizations["weight"].original.grad, case["grad_W_ste"])
    close(part.path.grad, case["grad_slorb"])
    close(x.grad, case["grad_x"])


def test_optimizer(case):
    weight = nn.Parameter(torch.from_numpy(case["W"].copy()))
    mask = torch.from_numpy(case["mask_keep"])
    options = {"lr": case.value("opt_lr"), "betas": tuple(case["opt_betas"].tolist()), "eps": case.value("opt_eps")}
    options["weight_decay"] = case.value("opt_weight_decay")
    engine = DecayingAdamW([weight], {weight: lambda: mask}, lambda step: case.value("srste_decay"), **options)
    for grad, after in zip(case["opt_grads"], case["opt_trajectory"]):
        weight.grad = torch.from_numpy(grad)
        engine.step()
        close(weight, after)


def test_losses(case):
    student, teacher = (torch.from_numpy(case[f"{who}_logits"]) for who in ("student", "teacher"))
    close(divergence(student, teacher, 2.0).mean(), case["kl_loss_T2"])
    assert float(divergence(teacher, teacher, 2.0).abs().max()) < 1e-6
    ours, theirs = (list(torch.from_numpy(case[f"{who}_hidden"])) for who in ("student", "teacher"))
    close(hidden_gap(ours, theirs).mean(), case["squarehead_loss"])


def test_annealing(case):
    found = [
        ramp(int(step), case.value("anneal_increase_step"), case.value("srste_decay")) for step in case["anneal_steps"]
    ]
    close(np.array(found), case["anneal_decay"])


def test_squared_norms_of_calibration(case):
    """The statistic of the metric that is not offered here is our input_norm, squared."""
    rows = torch.from_numpy(case["calib_X"])
    net = nn.Sequential(nn.Linear(rows.shape[-1], 2), nn.Flatten())
    found = collect(net, [(rows, torch.zeros(len(rows), dtype=torch.long))], ["input_norm"]).modules
    assert found is not None
    close(found["0"].input_norm.reshape(-1).square(), case["scaler_row"], rtol=1e-4)


def test_only_pruned_weights_shrink_without_a_gradient(case):
    weight = nn.Parameter(torch.from_numpy(case["W"].copy()))
    mask, before = torch.from_numpy(case["mask_keep"]), torch.from_numpy(case["W"])
    engine = DecayingAdamW([weight], {weight: lambda: mask}, lambda step: 0.1, lr=1e-4)
    weight.grad = torch.zeros_like(weight)
    engine.step()
    assert torch.equal(weight[mask], before[mask])
    moved = (weight - before)[~mask] * before[~mask].sign()
    assert (moved[before[~mask] != 0] < 0).all(), "towards zero"
