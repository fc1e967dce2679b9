"""The distillation loss against an independent derivation in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from prunus.train.distillation import divergence, mixed
from prunus.train.step import per_row_loss


@pytest.mark.golden("kd-data-pruning--loss")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_loss_and_gradient(case, dtype, tolerance) -> None:
    student = torch.tensor(case["student_logits"], dtype=dtype, requires_grad=True)
    teacher, labels = torch.tensor(case["teacher_logits"], dtype=dtype), torch.tensor(case["labels"])
    alpha, temperature = float(case.value("alpha")), float(case.value("temperature"))
    own = F.cross_entropy(student, labels, reduction="none")
    np.testing.assert_allclose(per_row_loss(student, labels).mean().item(), case["ce"], rtol=1e-5)
    soft = divergence(student, teacher, temperature).mean()
    np.testing.assert_allclose(soft.item(), case["kd_term"], rtol=tolerance)
    loss = mixed(own, student, teacher, alpha=alpha, temperature=temperature).mean()
    np.testing.assert_allclose(loss.item(), case["loss"], rtol=tolerance)
    loss.backward()
    np.testing.assert_allclose(student.grad, case["grad"], rtol=tolerance * 100, atol=tolerance)


def test_equal_logits_give_no_divergence_and_large_ones_stay_finite() -> None:
    logits = torch.randn(4, 7, requires_grad=True)
    found = divergence(logits, logits.detach(), 4.0)
    found.sum().backward()
    torch.testing.assert_close(found, torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(logits.grad, torch.zeros(4, 7), atol=1e-6, rtol=0)
    shifted = divergence(logits + 3, logits - 2, 4.0)
    torch.testing.assert_close(shifted, torch.zeros(4), atol=1e-5, rtol=0)
    assert divergence(torch.tensor([[1e4, -1e4]]), torch.tensor([[-1e4, 1e4]]), 1.0).isfinite().all()
