"""Principal axes of a masked signal and the matrices around it, against the released rotation; signs are free."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from prunus.core.edits import Rotate
from prunus.maths.rotation import centred, principal, rotation
from prunus.prunables.edits import set_weights
from prunus.signals.collect import collect
from prunus.signals.step import Step

pytestmark = pytest.mark.golden("slicegpt--pca-rotate")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture
def moment(case):
    """What one pass over the batches of the case measures at a norm, ignored tokens left out."""
    norm = nn.RMSNorm(case["X"].shape[-1])
    batches = [
        {"x": torch.from_numpy(x), "attention_mask": torch.from_numpy(m)} for x, m in zip(case["X"], case["mask"])
    ]

    def step(model, batch):
        model(batch["x"])
        return Step(np.arange(len(batch["x"])), None, None, None)

    (found,) = collect(nn.Sequential(norm), batches, "stream_moment", step=step).modules.values()
    return found.stream_moment


@pytest.fixture
def turned(case, moment):
    """The matrix that reads the signal and the one that writes it, after the edits that slicegpt makes."""
    model = nn.ModuleDict(
        {"read": nn.Linear(*case["W"].shape[::-1], bias=False), "write": nn.Linear(*case["W_out"].shape[::-1])}
    )
    q = rotation(moment, case.value("k"))
    with torch.no_grad():
        model["read"].weight.copy_(torch.from_numpy(case["W"]))
        model["write"].weight.copy_(torch.from_numpy(case["W_out"]))
        model["write"].bias.copy_(torch.from_numpy(case["b_out"]))
    places = (("read.weight", 1), ("write.weight", 0), ("write.bias", 0))
    set_weights(model, [Rotate(name, axis, q.T.numpy()) for name, axis in places])
    tensors = {name: tensor.detach().double().numpy() for name, tensor in model.named_parameters()}
    return q.numpy(), tensors


def test_axes(case, moment):
    values, q = principal(moment)
    np.testing.assert_allclose(values, case["eigenvalues"], rtol=1e-4)
    kept = q[:, : case.value("k")]
    np.testing.assert_allclose(kept @ kept.T, case["projector_k"], **CLOSE)
    np.testing.assert_allclose(q.T @ q, np.eye(len(q)), atol=1e-12)


def test_matrices(case, turned):
    q, tensors = turned
    k = case.value("k")
    back = q[:, :k]
    np.testing.assert_allclose(tensors["read.weight"][:, :k] @ back.T, case["W_sliced_times_projection"], **CLOSE)
    np.testing.assert_allclose(back @ tensors["write.weight"][:k], case["Wout_sliced_backprojected"], **CLOSE)
    np.testing.assert_allclose(back @ tensors["write.bias"][:k], case["bout_sliced_backprojected"], **CLOSE)


def test_signal_and_output(case, turned):
    q, tensors = turned
    x, k = case["X"].reshape(-1, case["X"].shape[-1]).astype(np.float64), case.value("k")
    np.testing.assert_allclose(np.abs(x @ q), case["XQ_abs"], **CLOSE)
    np.testing.assert_allclose(x @ q[:, :k] @ tensors["read.weight"][:, :k].T, case["sliced_output"], **CLOSE)


def test_means_taken_out(case):
    weight, bias = (torch.from_numpy(case[name]) for name in ("W_out", "b_out"))
    np.testing.assert_allclose(centred(weight, 0), case["W_out_mean_baked"], **CLOSE)
    np.testing.assert_allclose(centred(bias, 0), case["b_out_mean_baked"], **CLOSE)
