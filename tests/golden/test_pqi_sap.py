"""PQ index, Gini index, the bound and one step of adaptive pruning, against the released functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from prunus.flow.while_training import Pruning
from prunus.maths.sparsity_index import gini, pq_index, to_retain
from prunus.schedule.event import Event
from prunus.schedule.pqi_sap import PqiSap

pytestmark = pytest.mark.golden("pqi-sap--index-and-masks")


@pytest.fixture
def pairs(case):
    """(position, p, q) of every pair of the case."""
    return [(i, float(p), float(q)) for i, (p, q) in enumerate(case["pq"])]


def lines(case, name, folder=""):
    weight, mask = case[f"{folder}weight/{name}"], case[f"{folder}mask/{name}"].astype(bool)
    return weight.reshape(len(weight), -1), mask.reshape(len(weight), -1)


def test_indices(case, pairs):
    for i, p, q in pairs:
        for name in case.part("weight"):
            weight, mask = lines(case, name)
            found = [pq_index(w[m], p, q) for w, m in zip(weight, mask)]
            np.testing.assert_allclose(found, case[f"pqi/{i}/neuron/{name}"], rtol=1e-5, atol=1e-6)
            assert pq_index(weight[mask], p, q) == pytest.approx(case[f"pqi/{i}/layer/{name}"].item(), rel=1e-5)
        every = [w[m] for w, m in (lines(case, name) for name in case.part("weight"))]
        assert pq_index(np.concatenate(every), p, q) == pytest.approx(case[f"pqi/{i}/global"].item(), rel=1e-5)


def test_gini(case):
    for name, expected in case.part("gini/neuron").items():
        weight, mask = lines(case, name)
        np.testing.assert_allclose([gini(w[m]) for w, m in zip(weight, mask)], expected, rtol=1e-5, atol=1e-6)


def test_bound(case, pairs):
    error = float(case["hyper"][0])
    for i, p, q in pairs:
        for size, index, expected in zip(case["bound/d"], case["bound/si"], case[f"bound/{i}/m"]):
            found = to_retain(int(size), float(index), p=p, q=q, error=error)
            exact = size * (1 + error) ** (-q / (q - p)) * (1 - float(index)) ** (p * q / (q - p))
            assert found == expected or (abs(found - expected) == 1 and abs(exact - round(exact)) < 1e-4)


@pytest.mark.parametrize("scope", ["neuron", "layer", "global"])
def test_masks(case, pairs, scope):
    """One step, by the schedule and the driver, on the tensors of the case."""
    error, gamma, beta = (float(x) for x in case["hyper"])
    scopes = {"neuron": "output", "layer": "group", "global": "all"}
    for i, p, q in pairs:
        names = list(case.part(f"sap/{i}/{scope}"))
        own = case.part("neuron_case/weight") if scope == "neuron" else {}
        folder = {name: "neuron_case/" if name in own else "" for name in names}
        model = nn.Sequential()
        masks = {}
        for name in names:
            weight = torch.from_numpy(case[f"{folder[name]}weight/{name}"])
            made = nn.Conv2d(*weight.shape[1::-1], weight.shape[2:], bias=False) if weight.dim() > 2 else None
            model.add_module(name.split(".")[0], made or nn.Linear(*weight.shape[::-1], bias=False))
            model.get_parameter(name).data = weight.clone()
            masks[name] = torch.from_numpy(case[f"{folder[name]}mask/{name}"].astype(bool))
        options = {
            "scope": scopes[scope],
            "p": p,
            "q": q,
            "error": error,
            "gamma": gamma,
            "beta": beta,
            "parity": "official",
        }
        pruning = Pruning(model, PqiSap("0% weights", rounds=1, **options), total=2)
        pruning.masks.update(masks)
        found = pruning(Event("prune"), model)
        ours = PqiSap("0% weights", rounds=1, **{**options, "parity": "paper"})
        for name in names:
            np.testing.assert_array_equal(found[name], case[f"sap/{i}/{scope}/{name}"].astype(bool))
            alive = model.get_parameter(name).detach()[masks[name]]
            assert 0 <= ours.count(alive, masks[name].numel()) - pruning.schedule.count(alive, masks[name].numel()) <= 1
