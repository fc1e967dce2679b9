"""Contract of measures, on classifiers and 64 rows; a measure of another kind of model brings its own fixture here."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from contract import fixtures
from contract.catalogue import every
from contract.checks import untouched
from prunus.core.budget import Budget
from prunus.core.errors import NonFinite
from prunus.core.plan import Kept, Plan

measures = every("measure")
SETTINGS: dict[str, dict[str, Any]] = {
    "measure/latency": {"mode": "quick", "repeats": 3, "warmup": 1},
    "measure/perplexity": {"window": 8},
    "measure/reliance": {"blocks": ("above=0-127", "below=128-255")},
    "measure/connectivity": {"points": 3, "refresh": fixtures.dataset()},
}


class Language(nn.Module):
    """Next-token logits of a bag of one."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(11, 8), nn.Linear(8, 11)
        for number, parameter in enumerate(self.parameters()):
            parameter.data = fixtures.draw(*parameter.shape, seed=number)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.embedding(ids))


def inputs(method) -> tuple[nn.Module, Any]:
    """What a measure is for: a plan and its rows where it says so, else a classifier and its rows, unless it is named here."""
    if method.facts.get("of") == "selection":
        data = fixtures.dataset()
        return Plan("rows", {"rows": Kept.of_ids(data.ids[::2], 64, data.ids)}, Budget.parse("32 rows")), data
    if method.id == "measure/perplexity":
        return Language(), np.arange(64) % 11
    return fixtures.model("channels"), fixtures.dataset(role="test")


def measured(method, model, data):
    settings = SETTINGS.get(method.id, {})
    if method.facts.get("of") == "selection":
        settings = {"reference": fixtures.dataset(role="val"), "clusters": 4}
    return method.load()(model, data, **settings)


@measures
def test_values_are_finite_and_lie_in_their_intervals(method):
    found = measured(method, *inputs(method))
    assert found and all(isinstance(name, str) for name in found)
    for value, interval in found.values():
        assert math.isfinite(value)
        assert interval is None or interval[0] <= value <= interval[1]
    assert all(row.value == found[row.metric][0] for row in found.rows("pruned"))


@measures
def test_measuring_changes_nothing(method):
    model, data = inputs(method)
    if isinstance(model, Plan):
        before = model.hash()
        measured(method, model, data)
        assert model.hash() == before
        return
    model.train()
    first = next(model.children())
    first.requires_grad_(False)
    with untouched(model):
        measured(method, model, data)


@measures
def test_it_is_a_function_of_model_and_data(method):
    if method.name == "latency":  # time
        return
    model, data = inputs(method)
    assert dict(measured(method, model, data)) == dict(measured(method, copy.deepcopy(model), data))


@measures
def test_logits_that_are_not_finite_are_refused(method):
    if "logits" not in method.needs:
        return
    model, data = inputs(method)
    with torch.no_grad():
        list(model.parameters())[-1].fill_(float("nan"))
    with pytest.raises(NonFinite):
        measured(method, model, data)
