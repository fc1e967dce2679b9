"""DUAL and Dyn-Unc: what they rank first, against the whole log, and rows without a window."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prunus.core.errors import BadInput
from prunus.rows.dual import dual
from prunus.rows.dyn_unc import dyn_unc
from prunus.signals.recorder import Recorder

EPOCHS = 12
P_TRUE = {  # row -> probability of its label, epoch by epoch
    "easy": torch.full((EPOCHS,), 0.99),
    "hopeless": torch.full((EPOCHS,), 0.01),
    "wavers low": torch.tensor([0.1, 0.5] * 6),
    "wavers high": torch.tensor([0.5, 0.9] * 6),
    "wavers late": torch.cat([torch.full((8,), 0.5), torch.tensor([0.1, 0.9, 0.1, 0.9])]),
}


def recorded(p_true: torch.Tensor, **options):
    """Signals of two-class outputs with these probabilities `[epochs, n]` of class 0, which is every label."""
    rows = p_true.shape[1]
    recorder = Recorder(range(rows), ("window_std", "windows", "window_dual", "early_windows"), **options)
    for epoch in p_true:
        logits = torch.stack([epoch, 1 - epoch], dim=1).log()
        recorder.batch(np.arange(rows), logits=logits, labels=torch.zeros(rows, dtype=torch.long))
        recorder.end_epoch()
    return recorder.signals()


def test_rows_that_waver_come_first_and_dual_prefers_the_hard_ones():
    names, p_true = list(P_TRUE), torch.stack(list(P_TRUE.values()), dim=1)
    s = recorded(p_true, window=4, early=8)
    by_dual = [names[at] for at in dual(s).argsort(descending=True)]
    assert by_dual[:2] == ["wavers low", "wavers high"]
    assert dual(s)[names.index("wavers late")] < 1e-6, "DUAL looks at the early epochs only"
    assert dyn_unc(s)[names.index("wavers low")] == pytest.approx(
        dyn_unc(s)[names.index("wavers high")].item(), rel=1e-5
    )
    assert dyn_unc(s)[names.index("wavers late")] > 0.1
    assert max(dyn_unc(s)[:2].tolist()) < 1e-6


def test_against_the_whole_log():
    p_true = torch.rand(17, 50, generator=torch.Generator().manual_seed(0)) * 0.98 + 0.01
    s = recorded(p_true, window=5, early=9)
    late, soon = p_true.double().unfold(0, 5, 1), p_true[:9].double().unfold(0, 5, 1)
    torch.testing.assert_close(dyn_unc(s).double(), late.std(2).mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(dual(s).double(), (soon.std(2) * (1 - soon.mean(2))).mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("criterion", [dual, dyn_unc])
def test_a_run_shorter_than_a_window_is_refused(criterion):
    s = recorded(torch.full((4, 3), 0.5), window=5, early=9)
    with pytest.raises(BadInput, match=r"3 rows were presented fewer .*ids 0, 1, 2.*smaller window="):
        criterion(s)


def test_windows_and_early_epochs_must_fit():
    with pytest.raises(BadInput, match="not 1 and 30"):
        Recorder(range(2), "windows", window=1)
    with pytest.raises(BadInput, match="not 10 and 5"):
        Recorder(range(2), "windows", early=5)
