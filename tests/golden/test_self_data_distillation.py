"""Runs of blocks by the angle they turn, and spherical merging, against the released functions of the tools the paper names."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prunus.maths.block_angles import block_angles
from prunus.maths.merging import slerp

pytestmark = pytest.mark.golden("self-data-distillation--angular-slerp")


def test_distances_and_the_run_that_goes(case):
    hidden, mask = (torch.from_numpy(case[name]) for name in ("hidden_states", "attention_mask"))
    found = block_angles(hidden, mask, case.value("block_size"))
    np.testing.assert_allclose(found, case["distances"], rtol=1e-5)
    assert int(found.argmin()) == case.value("best_start")
    assert ((found >= 0) & (found <= 1)).all()


def test_a_scaling_turns_nothing(case):
    hidden = torch.from_numpy(case["hidden_states"])
    scaled = torch.stack([hidden[0] * (number + 1) for number in range(len(hidden))])
    assert float(block_angles(scaled, None, 1).max()) < 1e-6


@pytest.mark.parametrize(("second", "wanted", "arc"), [("v1", "slerp", True), ("v_colinear", "slerp_colinear", False)])
def test_slerp(case, second, wanted, arc):
    v0, v1 = torch.from_numpy(case["v0"]), torch.from_numpy(case[second])
    for at, t in enumerate(case["t"].tolist()):
        found, on_arc = slerp(v0, v1, t)
        assert on_arc == arc
        np.testing.assert_allclose(found, case[wanted][at], rtol=1e-5, atol=1e-6)
        other, _ = slerp(v1, v0, 1 - t)
        torch.testing.assert_close(found, other)
