"""Policy, spectra, rewards, loss and its gradient against the released functions, with their noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prunus.core.rng import Rng
from prunus.maths.row_policy import RowPolicy, discounted, distance, noisy, reward, spectrum, towards_half

pytestmark = pytest.mark.golden("prunenet--policy")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture
def policy(case):
    made = RowPolicy(*case["W"].shape, Rng(0, "golden"))
    places = {"weight": "proj_weight", "bias": "proj_bias", "row_logit": "row_logit"}
    made.load_state_dict({name: torch.from_numpy(case[place]) for name, place in places.items()})
    return made


@pytest.fixture
def logits(case, policy):
    return policy(torch.from_numpy(case["W"])).detach()


def test_probabilities(case, logits):
    np.testing.assert_allclose(torch.sigmoid(logits), case["alpha"], **CLOSE)
    keep = torch.sigmoid(noisy(logits, torch.from_numpy(case["eps"])))
    np.testing.assert_allclose(keep, case["keep_prob"], **CLOSE)
    np.testing.assert_array_equal(np.sort(np.argsort(-keep.numpy())[: case.value("n_keep")]), case["top_rows"])
    assert len(case["action"]) == case.value("n_keep")


@pytest.mark.parametrize("rows", ["action", "top"])
def test_spectra_and_rewards(case, rows):
    matrix = torch.from_numpy(case["W"])
    chosen = matrix[torch.from_numpy(case["action" if rows == "action" else "top_rows"])]
    np.testing.assert_allclose(spectrum(matrix), case["spectrum_full"], rtol=1e-4)
    if rows == "action":
        np.testing.assert_allclose(spectrum(chosen), case["spectrum_action"], rtol=1e-4)
    found = distance(spectrum(matrix), spectrum(chosen))
    assert found == pytest.approx(case.value(f"ks_{rows}"), abs=1e-12)
    assert reward(found) == pytest.approx(case.value(f"reward_{rows}"))


def test_discounts(case):
    np.testing.assert_allclose(discounted(case["rewards"].tolist()), case["discounted"], rtol=1e-9)


def test_loss_and_gradient(case, policy):
    matrix, noise = torch.from_numpy(case["W"]), torch.from_numpy(case["eps"])
    loss = policy.loss(matrix, noise, torch.from_numpy(case["action"]), float(case["discounted"][1]))
    assert float(loss.detach()) == pytest.approx(case.value("policy_loss_action_layer1"), rel=1e-4)
    loss.backward()
    np.testing.assert_allclose(policy.row_logit.grad, case["grad_row_logit"], rtol=1e-3, atol=1e-3)


def test_released_divergence(case, logits):
    assert float(towards_half(logits, released=True)) == pytest.approx(case.value("kl"), rel=1e-4)
    alpha = torch.from_numpy(case["alpha"]).double()
    true = (alpha * (2 * alpha).log() + (1 - alpha) * (2 - 2 * alpha).log()).sum()
    assert float(towards_half(logits)) == pytest.approx(float(true), rel=1e-3)
