"""Automated gradual pruning: when, how much and which, against the released functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from prunus.flow.while_training import Pruning
from prunus.schedule.cubic import Cubic
from prunus.schedule.event import events_of

pytestmark = pytest.mark.golden("agp--schedule-and-masks")


def schedule(case, parity):
    first, last, begin, end, every, power = (float(x) for x in case["hyper"])
    options = {"begin": int(begin), "end": int(end), "every": int(every), "power": power, "initial": 1 - first}
    return Cubic(f"sparsity {100 * last:.12g}%", parity=parity, **options)


def test_when_and_how_much(case):
    official, total = schedule(case, "official"), int(case["steps"][-1])
    np.testing.assert_array_equal([official.at(int(t), total) is not None for t in case["steps"]], case["is_turn"])
    np.testing.assert_allclose([1 - official.share(int(t), total) for t in case["steps"]], case["sparsity"], rtol=1e-6)
    np.testing.assert_array_equal(list(events_of(official, total)), case["event_step"])


@pytest.mark.parametrize("parity", ["official", "paper"])
def test_masks(case, parity):
    total = int(case["steps"][-1])
    model = nn.Linear(*reversed(case["weights_before"].shape[1:]), bias=False)
    pruning = Pruning(model, schedule(case, parity), total=total)
    for step, before, mask, threshold in zip(
        case["event_step"].tolist(), case["weights_before"], case["mask"].astype(bool), case["threshold"]
    ):
        model.weight.data = torch.from_numpy(before).clone()
        event = pruning.events[step]
        found = pruning(event, model)["weight"].numpy()
        assert np.abs(before[found]).min() == pytest.approx(float(threshold), rel=1e-6) or parity == "paper"
        if parity == "official":
            np.testing.assert_array_equal(found, mask)
            continue
        tied = np.abs(before) == threshold
        assert (found != mask)[~tied].sum() <= 1  # ours rounds down what goes, and ties may go
        assert found.sum() == before.size - int(np.float64(before.size) * (1 - event.budget.term.amount) + 1e-9)


def test_ours_ends_with_an_event_where_the_released_schedule_stops_short(case):
    total, last = int(case["steps"][-1]), float(case["hyper"][1])
    for parity in ("paper", "official"):
        cubic = schedule(case, parity)
        cubic.every = next(k for k in range(cubic.every, total) if (cubic.end - cubic.begin) % k)
        events = events_of(cubic, total)
        assert (max(events) == cubic.end) == (parity == "paper")
        reached = 1 - events[max(events)].budget.term.amount
        assert reached == pytest.approx(last, abs=1e-12) if parity == "paper" else reached < last
