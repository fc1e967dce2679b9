"""The distillation loss against an independent derivation in float64, alone and through the recovery that uses it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunus.prunables.dataset import Dataset
from prunus.recovery.distill import distill
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


class Table(nn.Module):
    """Logits of row `x`, as parameters: after one plain step they have moved by the gradient."""

    def __init__(self, logits: np.ndarray) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits[x]


@pytest.mark.golden("kd-data-pruning--loss")
def test_one_step_of_the_recovery_follows_the_gradient(case) -> None:
    rows = len(case["labels"])
    data = Dataset((np.arange(rows), case["labels"]))
    student, teacher = Table(case["student_logits"]), Table(case["teacher_logits"])
    settings = {"steps": 1, "batch": rows, "lr": 1.0, "schedule": "constant", "weight_decay": 0.0}
    more = {"momentum": 0.0, "nesterov": False, "alpha": float(case.value("alpha"))}
    report: dict[str, float] = {}
    distill(
        student, data, teacher=teacher, temperature=float(case.value("temperature")), report=report, **settings, **more
    )
    moved = case["student_logits"] - student.logits.detach().numpy()
    np.testing.assert_allclose(moved, case["grad"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(report["loss"], case["loss"], rtol=1e-5)
    np.testing.assert_array_equal(teacher.logits.detach(), case["teacher_logits"].astype(np.float32))


def test_equal_logits_give_no_divergence_and_large_ones_stay_finite() -> None:
    logits = torch.randn(4, 7, requires_grad=True)
    found = divergence(logits, logits.detach(), 4.0)
    found.sum().backward()
    torch.testing.assert_close(found, torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(logits.grad, torch.zeros(4, 7), atol=1e-6, rtol=0)
    shifted = divergence(logits + 3, logits - 2, 4.0)
    torch.testing.assert_close(shifted, torch.zeros(4), atol=1e-5, rtol=0)
    assert divergence(torch.tensor([[1e4, -1e4]]), torch.tensor([[-1e4, 1e4]]), 1.0).isfinite().all()
