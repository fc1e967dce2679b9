"""AP: both cuts of one round, the rewind, and rates of dead neurons."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunus.flow.while_training import Pruning
from prunus.measure.dead_neurons import dead_neurons
from prunus.schedule.ap import Ap

pytestmark = pytest.mark.golden("ap--two-stage-mask")


def names(case):
    return sorted(case.part("init"))


def net(case):
    """Bias-free layers of the case's shapes, at its initial weights; they are never run."""
    model = nn.Module()
    for name in names(case):
        shape = case[f"init/{name}"].shape
        conv = len(shape) == 4
        layer = nn.Conv2d(shape[1], shape[0], shape[2:], bias=False) if conv else nn.Linear(*shape[::-1], bias=False)
        model.add_module(name.removesuffix(".weight"), layer)
    filled(model, case, "init")
    return model


def filled(model, case, folder):
    with torch.no_grad():
        for name in names(case):
            model.get_parameter(name).copy_(torch.from_numpy(case[f"{folder}/{name}"]))


def one_round(case, fraction, activation, **settings):
    """The model and its masks after one round that trained to the weights of the case."""
    model = net(case)
    schedule = Ap(
        f"{100 * (1 - fraction):.12g}% weights", fraction=fraction, activation=activation, rounds=1, **settings
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    pruning = Pruning(model, schedule, total=schedule.whole(1), optimizer=optimizer)
    filled(model, case, "trained")
    assert pruning.step().kind == "rewind"
    return model, pruning.masks.named


def shares(case):
    total, activation = (float(x) / 100 for x in case["hyper"])
    return total, activation


def test_base(case):
    total, activation = shares(case)
    _, masks = one_round(case, round(total - activation, 12), 0.0, parity="official")
    for name in names(case):
        np.testing.assert_array_equal(masks[name].numpy(), case[f"mask_base/{name}"].astype(bool))


def test_both_cuts_and_the_rewind(case):
    model, masks = one_round(case, *shares(case), parity="official")
    alive = sum(case[f"init/{name}"].size for name in names(case))
    assert int(alive * shares(case)[1] + 1e-9) == case.value("num_ap")
    for name in names(case):
        np.testing.assert_array_equal(masks[name].numpy(), case[f"mask_ap/{name}"].astype(bool))
        np.testing.assert_array_equal(model.get_parameter(name).detach().numpy(), case[f"rewound/{name}"])


def test_our_default_has_exact_counts_and_takes_negative_weights(case):
    total, activation = shares(case)
    _, masks = one_round(case, total, activation)
    _, base = one_round(case, total, 0.0)
    size, gone = sum(mask.numel() for mask in masks.values()), sum(int((~mask).sum()) for mask in masks.values())
    assert gone == int(total * size) == sum(int((~mask).sum()) for mask in base.values())
    taken = sum(int((~mask & base[name]).sum()) for name, mask in masks.items())
    assert 0 < taken <= case.value("num_ap")
    for name, mask in masks.items():
        assert (case[f"trained/{name}"][(~mask & base[name]).numpy()] < 0).all()


@pytest.mark.parametrize("form", ["function", "method", "module", "inplace"])
@pytest.mark.parametrize("batch", [7, 64])
def test_dead_neurons(case, form, batch):
    x = torch.from_numpy(case["pre_activation"])
    call = {"function": F.relu, "method": lambda x: x.relu(), "module": nn.ReLU(), "inplace": nn.ReLU(inplace=True)}[
        form
    ]

    class Last(nn.Module):
        def forward(self, x):
            return call(x.clone()).flatten(1)

    found = dead_neurons(Last(), (x, torch.zeros(len(x), dtype=torch.long)), batch=batch)
    for metric, name in (("zero_rate", "zero_rate"), ("static_dead", "static_dnr"), ("dynamic_dead", "dynamic_dnr")):
        assert found[metric][0] == pytest.approx(case.value(name), abs=1e-9)
