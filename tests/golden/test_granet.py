"""GraNet: when, how much, the cut and the exchange, against the released functions."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from prunus.flow.while_training import Pruning
from prunus.schedule.event import events_of
from prunus.schedule.granet import GraNet

pytestmark = pytest.mark.golden("granet--prune-and-regrow")


class Net(nn.Module):
    """Matrices of the shapes of the case."""

    def __init__(self, tensors):
        super().__init__()
        for name, weight in tensors.items():
            layer = (
                nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:], bias=False) if weight.ndim > 2 else None
            )
            self.add_module(
                name.removesuffix(".weight"), layer or nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            )


def schedule(case, parity="official"):
    first, last, begin, end, every, length, epochs, rate = (float(x) for x in case["hyper"])
    made = GraNet(
        f"{100 * last:.12g}% weights", initial=first, begin=int(begin * length), end=int(end * length),
        every=int(every), exchange=rate, parity=parity,
    )  # fmt: skip
    return made, int(epochs * length)


def held(tensors, dtype=torch.bool):
    return {name: torch.from_numpy(value).to(dtype) for name, value in tensors.items()}


def test_when_and_how_much(case):
    granet, total = schedule(case)
    last = int(case["event_step"][-1])
    steps = [step for step in events_of(granet, total) if 0 < step <= last]
    np.testing.assert_array_equal(steps, case["event_step"])
    np.testing.assert_allclose([granet.rate(step, total) for step in steps], case["regen_rate"], rtol=1e-9)


def test_every_event(case):
    """Half steps and whole events: the cut over all matrices, then the exchange within each."""
    granet, total = schedule(case)
    names = list(case.part("init_mask"))
    model = Net({name: case["init_mask/" + name] for name in names})
    pruning = Pruning(model, granet, total=total)
    events = events_of(granet, total)
    masks = held(case.part("init_mask"))
    for at, step in enumerate(case["event_step"].tolist()):
        event, now = events[step], case.part(f"ev{at}")
        for name in names:
            np.testing.assert_array_equal(masks[name], now["mask_before/" + name].astype(bool))
            parameter = model.get_parameter(name)
            parameter.data = torch.from_numpy(now["weight_before/" + name]).clone()
            parameter.grad = torch.from_numpy(now["grad/" + name]).clone()
        pruning.masks.update(masks)
        cut = pruning._pruned(event) if event.budget is not None else pruning.masks.named
        masks = copy.deepcopy(pruning(event, model))
        for name in names:
            np.testing.assert_array_equal(cut[name], now["mask_after_prune/" + name].astype(bool))
            np.testing.assert_array_equal(masks[name], now["mask_after_regrow/" + name].astype(bool))
            found = model.get_parameter(name).detach().numpy()
            np.testing.assert_allclose(found, now["weight_after/" + name], rtol=1e-6)
            assert masks[name].sum() == cut[name].sum()


def test_ours_meets_the_budget_and_ends_pruning_at_the_same_place(case):
    ours, total = schedule(case, "paper")
    released, _ = schedule(case)
    cuts = [[s for s, e in events_of(one, total).items() if e.budget is not None and s] for one in (ours, released)]
    assert ours.share(cuts[0][-1], total) == pytest.approx(ours.final)
    assert released.share(cuts[1][-1], total) > ours.final + 1e-6
    assert set(cuts[1]) <= set(cuts[0])
    for step in cuts[1]:
        assert ours.share(step, total) == released.share(step, total)
