"""Budgets in milliseconds, with a clock that the model itself moves: no test waits for a real one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prunus as px
from prunus.core.errors import BadInput, BudgetUnreachable, UnknownName
from prunus.flow.milliseconds import MEASUREMENTS, REPEATS, Stopwatch
from prunus.prunables.model import ModelPrunable

EXAMPLE = torch.zeros(1, 3, 8, 8)


class Clock:
    """Seconds that pass only while a `Slow` layer runs."""

    now, pace, batches, kinds = 0.0, 1.0, set[int](), set[torch.dtype]()

    def __call__(self) -> float:
        return Clock.now


class Slow(nn.Conv2d):
    """Takes a microsecond for each weight and row, and 0.2 ms for being called."""

    def forward(self, input: Tensor) -> Tensor:
        Clock.now += Clock.pace * (1e-6 * self.weight.numel() * input.shape[0] + 2e-4)
        if type(input) is Tensor:
            Clock.batches.add(input.shape[0])
            Clock.kinds.add(input.dtype)
        return super().forward(input)


def net(width: int = 32) -> nn.Module:
    """Three slow convolutions and a classifier, seeded."""
    torch.manual_seed(0)
    layers = [
        Slow(3, width, 3, padding=1),
        nn.ReLU(),
        Slow(width, width, 3, padding=1),
        nn.ReLU(),
        Slow(width, width, 3),
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4)).eval()


def true_ms(model: nn.Module, batch: int = 1) -> float:
    """What the clock says of one batch."""
    before = Clock.now
    model(torch.zeros(batch, 3, 8, 8))
    return 1000 * (Clock.now - before)


def planned(model: nn.Module, budget: str, **settings: Any) -> px.Plan:
    return px.plan(model, "l1", budget, example=EXAMPLE, clock=Clock(), **settings)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("scope", ["global", "group", "isomorphic"])
def test_the_cut_model_takes_the_time_asked_for(share, scope):
    model = net()
    dense = true_ms(model)
    plan = planned(model, f"{share * dense:.6f} ms", scope=scope)
    took = true_ms(plan.apply(model))
    assert share * dense * (1 + 1e-9) >= took >= (share - 0.03) * dense
    assert plan.planned["ms"] == pytest.approx(took) and plan.dense["ms"] == pytest.approx(dense)
    timing = plan.provenance["timing"]
    assert 1 <= len(timing["measurements"]) <= MEASUREMENTS
    assert took in [pytest.approx(one["ms"]) for one in timing["measurements"]]
    assert {timing[name] for name in ("batch", "threads")} == {1} and timing["dtype"] == "float32"


def test_shares_and_batches_and_types_and_files(tmp_path):
    model = net()
    Clock.batches, Clock.kinds = set(), set()
    plan = planned(model, "60% ms at batch 4, 2 threads, float64")
    assert Clock.batches == {4} and Clock.kinds == {torch.float64}
    assert next(model.parameters()).dtype == torch.float32
    assert true_ms(plan.apply(model), 4) <= 0.6 * true_ms(model, 4) * (1 + 1e-9)
    plan.save(tmp_path)
    again = px.Plan.load(tmp_path)
    assert again.asked == plan.asked and again.provenance["timing"] == plan.provenance["timing"]
    assert again.asked.short() == "60% ms at batch 4, 2 threads, float64"
    assert px.Budget.parse(again.asked.short()) == again.asked


def test_other_quantities_hold_too():
    model = net()
    plan = planned(model, "80% ms and 30% params")
    assert plan.planned["params"] <= 0.3 * plan.dense["params"] and plan.planned["ms"] <= 0.8 * plan.dense["ms"]
    tight = planned(model, "40% ms and 90% params")
    assert tight.planned["ms"] <= 0.4 * tight.dense["ms"]


def test_a_time_that_nothing_can_reach_names_the_least():
    with pytest.raises(BudgetUnreachable, match=r"nearest reachable: [\d.]+ ms") as caught:
        planned(net(), "0.5 ms")
    least = float(caught.value.nearest.split()[0])
    assert planned(net(), f"{1.001 * least:.6f} ms").planned["ms"] <= 1.001 * least
    assert caught.value.exit_code == 3


def test_more_time_than_the_dense_model_takes_removes_nothing_and_says_so():
    with pytest.raises(BadInput, match="removes nothing"):
        planned(net(), "1000 ms")
    assert planned(net(), "100% ms").removes_nothing


def test_a_machine_that_slows_down_in_between_moves_nothing(monkeypatch):
    """The clock runs at another pace in every measurement; ratios to the dense model stay."""
    monkeypatch.setattr(Clock, "pace", 1.0)

    class Slowing(Clock):
        calls = 0

        def __call__(self) -> float:
            self.calls += 1
            Clock.pace = 1.0 + self.calls // (4 * REPEATS)  # one measurement reads the clock 4 * REPEATS times
            return Clock.now

    model = net()
    steady = planned(model, "50% ms")
    slowing = px.plan(model, "l1", "50% ms", example=EXAMPLE, clock=Slowing())
    assert len(steady.provenance["timing"]["measurements"]) > 1 and Clock.pace > 1
    assert slowing.planned["ms"] == pytest.approx(steady.planned["ms"])
    assert slowing.table() == steady.table()


def test_what_milliseconds_need_is_told():
    with pytest.raises(BadInput, match="meta device"):
        Stopwatch(ModelPrunable(net().to("meta"), EXAMPLE), px.Budget.parse("5 ms"), dict)
    with pytest.raises(BadInput, match="no budget in ms"):
        px.plan(net(), "precropping", "5 ms", example=EXAMPLE, data=(torch.zeros(4, 3, 8, 8), torch.zeros(4).long()))
    for text in ("5 ms at noon", "5 ms batch four"):
        with pytest.raises(BadInput, match="is not understood"):
            px.Budget.parse(text)
    with pytest.raises(UnknownName, match="float32"):
        px.Budget.parse("5 ms", dtype="float31")
    assert str(px.Budget.parse("5.5 ms")) == "takes 5.5 ms at most at batch 1, 1 thread"
