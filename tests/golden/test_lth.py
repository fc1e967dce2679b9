"""Iterative magnitude pruning with rewinding, and its random controls, against the released functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunus.flow.while_training import Pruning
from prunus.schedule.iterative import Iterative
from prunus.train.ticket import angle, distance, shuffled

pytestmark = pytest.mark.golden("lth--imp-levels")


def tensors(arrays, dtype=torch.float64):
    return {name: torch.from_numpy(value).to(dtype) for name, value in arrays.items()}


def net(case):
    """The network of the case at its initial weights, made of their shapes."""
    start = {
        n.removeprefix("init/"): torch.from_numpy(a) for n, a in case.items() if n.count("/") == 1 and n[:5] == "init/"
    }
    start.pop("remaining"), start.pop("l2_to_full_masked")
    layers = sorted({name.split(".")[0] for name in start})
    model = nn.Sequential()
    for layer in layers:
        outputs, inputs = start[f"{layer}.weight"].shape
        model.add_module(layer, nn.Linear(inputs, outputs).double())
        if layer != layers[-1]:
            model.add_module(f"after_{layer}", nn.ReLU())
    model.load_state_dict(start)
    return model


@pytest.fixture(params=["rewind", "init"])
def rounds(request, case):
    """The whole experiment in a loop of one's own: (tag, what each level trained with and ended at, W_k)."""
    total, back, fraction, levels, rate, momentum, decay = (float(x) for x in case["hyper"])
    to = int(back) if request.param == "rewind" else 0
    budget = f"{100 * (1 - fraction) ** levels:.12g}% weights"
    schedule = Iterative(budget, fraction=fraction, rounds=int(levels), to=to, parity="official")
    model = net(case)
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=momentum, weight_decay=decay)
    pruning = Pruning(model, schedule, total=schedule.whole(int(total)), optimizer=optimizer)
    x, y = torch.from_numpy(case["X"]), torch.from_numpy(case["Y"])
    found, early = [], {name: value.clone() for name, value in model.state_dict().items()}
    while pruning.done < pruning.total:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        if pruning.position + 1 == int(total):
            found.append((pruning.masks.named, {k: v.clone() for k, v in model.state_dict().items()}))
        pruning.step()
        if pruning.done == to:
            early = {name: value.clone() for name, value in model.state_dict().items()}
            optimizer.state.clear()  # as released: level 0 starts at step k with empty moments, like all levels
    return request.param, found, early


def test_levels(case, rounds):
    tag, found, early = rounds
    assert len(found) == len(case[f"{tag}/remaining"])
    if tag == "rewind":
        for name, value in case.part("at_rewind").items():
            np.testing.assert_allclose(early[name], value, rtol=1e-8)
    full = found[0][1]
    for level, (masks, state) in enumerate(found):
        expected = case.part(f"{tag}/level{level}")
        for name, mask in expected.part("mask").items():
            ours = masks.get(name, torch.ones(mask.shape, dtype=torch.bool))
            np.testing.assert_array_equal(ours, mask.astype(bool), err_msg=f"{tag} level {level} {name}")
        for name, value in expected.part("final").items():
            np.testing.assert_allclose(state[name], value, rtol=1e-8, atol=1e-12)
        kept = tensors(expected.part("mask"), torch.bool)
        assert sum(int(mask.sum()) for mask in kept.values()) == case[f"{tag}/remaining"][level]
        strayed = distance(full, state, kept)
        assert strayed == pytest.approx(float(case[f"{tag}/l2_to_full_masked"][level]), rel=1e-6, abs=1e-9)
        assert 0 <= angle(early, full, state, kept) < 90 and (level > 0 or strayed < 1e-9)


def test_random_masks(case):
    """Of the last level's mask, as many weights at random places."""
    seed = case.value("seed") if "seed" in case else 103  # named in the description of the case
    for level, remaining in enumerate(case["rewind/remaining"]):
        masks = tensors(case.part(f"rewind/level{level}/mask"), torch.bool)
        ours = {within: shuffled(masks, seed, within=within, parity="official") for within in ("group", "all")}
        for name, mask in masks.items():
            assert int(ours["group"][name].sum()) == int(mask.sum())
        assert sum(int(m.sum()) for m in ours["all"].values()) == remaining
    for name in masks:
        np.testing.assert_array_equal(ours["group"][name], case["random_layerwise/" + name].astype(bool))
        np.testing.assert_array_equal(ours["all"][name], case["random_global/" + name].astype(bool))
