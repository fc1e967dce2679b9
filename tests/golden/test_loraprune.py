"""LoRAPrune of one decoder block against the released sensitivities, moving averages, masks and schedule."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prunus.channels.loraprune import lowest_go, moving_average, normalised, per_unit, sensitivity, sparsity
from prunus.core.prunable import Slot

pytestmark = pytest.mark.golden("loraprune--sensitivity")
PARTS = {"self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"), "mlp": ("gate_proj", "up_proj", "down_proj")}
READERS = ("o_proj", "down_proj")


def slot(case, name):
    """Where the units of a part are in one of its matrices."""
    width = case.value("head_dim") if name in ("q_proj", "k_proj", "v_proj", "o_proj") else 1
    units = case.value("num_heads") if width > 1 else case.value("d_ff")
    role, axis = ("reader", 1) if name in READERS else ("writer", 0)
    return Slot(name, axis, role, np.arange(units * width).reshape(units, width))


def raw(case, name, step):
    arrays = (
        case[f"{name}.{key}"] for key in ("weight", "lora_A", "lora_B", f"grad_lora_A.{step}", f"grad_lora_B.{step}")
    )
    found = sensitivity(*map(torch.from_numpy, arrays), case.value("lora_alpha") / case.value("lora_r"))
    return per_unit(found, slot(case, name))


def averages(case, part):
    """The moving average after every step."""
    now, found = 0.0, []
    for step in range(case.value("n_steps")):
        total = sum(normalised(raw(case, name, step)).numpy() for name in PARTS[part])
        now = moving_average(now, total)
        found.append(now)
    return found


@pytest.mark.parametrize("part", PARTS)
def test_scores(case, part):
    for name in PARTS[part]:
        vector = raw(case, name, case.value("n_steps") - 1)
        np.testing.assert_allclose(vector, case[f"{name}.raw_lastgrad"], rtol=1e-4)
        np.testing.assert_allclose(normalised(vector), case[f"{name}.raw_lastgrad_norm"], rtol=1e-4)
    for step, found in enumerate(averages(case, part)):
        np.testing.assert_allclose(found, case[f"sensitivity.{part}.{step}"], rtol=1e-4)


@pytest.mark.parametrize("part", PARTS)
def test_masks(case, part):
    scores = averages(case, part)[-1]
    gone = int(scores.size * case.value("ratio"))
    kept = lowest_go(scores, np.ones(scores.size, dtype=bool), gone)
    assert (~kept).sum() == gone
    for name in PARTS[part]:
        wanted = np.ones_like(case[f"{name}.mask"])
        if name not in READERS:
            wanted[slot(case, name).index[~kept].reshape(-1)] = 0
        np.testing.assert_array_equal(wanted, case[f"{name}.mask"])


def test_schedule(case):
    total = case.value("schedule_total_steps")
    found = np.array([sparsity(step, total, case.value("ratio")) for step in range(len(case["schedule"]))])
    np.testing.assert_allclose(found, case["schedule"], rtol=1e-4, atol=1e-12)
    assert (np.diff(found) >= 0).all() and found.min() >= 0 and found.max() <= case.value("ratio")


def test_what_is_gone_stays_gone(case):
    scores = averages(case, "mlp")[-1]
    kept = np.ones(scores.size, dtype=bool)
    for gone in range(0, scores.size, 3):
        now = lowest_go(np.roll(scores, gone), kept, gone)
        assert not (now & ~kept).any() and (~now).sum() == gone
        kept = now
