"""Which columns a classifier uses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from prunus.core.errors import BadInput
from prunus.maths.slabs import lms, slab_data
from prunus.measure.reliance import auc, reliance


class Column(nn.Module):
    """Logits of one feature, after undoing a rotation."""

    def __init__(self, at: int, rotation: np.ndarray | None = None) -> None:
        super().__init__()
        self.at = at
        self.turn = None if rotation is None else torch.from_numpy(rotation.T).float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        value = (x if self.turn is None else x @ self.turn)[:, self.at]
        return torch.stack([-value, value], 1)


DATA = lms(2000, 5, 4)
ROWS = DATA.x, DATA.y


def test_a_network_that_uses_one_column_relies_on_it_alone():
    found = {name: value for name, (value, _) in reliance(Column(0), ROWS).items()}
    assert found["auc"] == found["accuracy"] == 1
    assert found["reliance@0"] > 0.95 and abs(found["auc_without@0"] - 0.5) < 0.02
    assert found["auc_only@0"] == 1 and found["logit_change@0"] > 0.5
    for at in (1, 2, 3):
        assert found[f"reliance@{at}"] == found[f"logit_change@{at}"] == 0
        assert abs(found[f"auc_only@{at}"] - 0.5) < 0.03


def test_blocks_go_by_name_and_all_columns_together_leave_chance():
    found = reliance(Column(0), ROWS, blocks=("simple=0", "slabs=1-3", "all=0-1+2+3"))
    assert found["reliance@simple"][0] == pytest.approx(found["reliance@all"][0]) and found["reliance@slabs"][0] == 0
    assert found["auc_only@all"][0] == 1
    for wrong in ("0-9", "simple=x"):
        with pytest.raises(BadInput, match="columns"):
            reliance(Column(0), ROWS, blocks=(wrong,))
    with pytest.raises(BadInput, match="which belong together"):
        reliance(Column(0), (np.zeros((4, 40), dtype=np.float32), np.array([0, 1, 0, 1])))


def test_a_rotation_is_undone_first():
    data = slab_data(2000, (1, 5, 5), rotate=True)
    found = reliance(Column(0, data.rotation), (data.x, data.y), rotation=data.rotation)
    assert found["reliance@0"][0] > 0.95 and found["reliance@1"][0] < 1e-3


def test_auc_is_that_of_scikit_learn():
    rng = np.random.RandomState(0)
    y, logits = rng.randint(0, 2, 300), np.round(rng.randn(300, 2), 1)
    assert auc(logits, y) == pytest.approx(roc_auc_score(y, logits[:, 1] - logits[:, 0]))
    three = rng.randint(0, 3, 300)
    logits = rng.randn(300, 3)
    centred = logits - logits.mean(1, keepdims=True)
    each = [roc_auc_score(three == label, centred[:, label]) for label in range(3)]
    assert auc(logits, three) == pytest.approx(np.mean(each))
