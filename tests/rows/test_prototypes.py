"""Prototypes: order, ties, the default number of clusters, collapsed features, refusals."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prunus.core.errors import BadInput
from prunus.core.rng import Rng
from prunus.rows.prototypes import default_clusters, prototypes
from prunus.rows.supervised_prototypes import supervised_prototypes


def signals(n=90, order=None, **more):
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((n, 6)).astype(np.float32))
    labels = torch.arange(n) % 4
    at = np.arange(n) if order is None else order
    return SimpleNamespace(**{"ids": 500 + at, "embedding": x[at], "labels": labels[at], **more})


@pytest.mark.parametrize("criterion", [prototypes, supervised_prototypes])
def test_scores_follow_their_rows(criterion):
    order = np.random.default_rng(1).permutation(90)
    options = {"rng": Rng(3, "x")} if criterion is prototypes else {}
    base, moved = criterion(signals(), **options), criterion(signals(order=order), **options)
    assert torch.equal(base[order], moved)
    assert base.min() >= 0 and base.max() <= 2 and base.unique().numel() > 80


@pytest.mark.parametrize("criterion", [prototypes, supervised_prototypes])
@pytest.mark.filterwarnings("ignore:rows lie")
def test_equal_rows_are_ties(criterion):
    same = torch.randn(1, 6, generator=torch.Generator().manual_seed(0)).expand(90, 6)
    assert criterion(signals(embedding=same)).unique().tolist() == [0.0]


def test_default_clusters():
    assert default_clusters(signals(), 90) == 4
    assert default_clusters(SimpleNamespace(), 90) == 9
    assert default_clusters(SimpleNamespace(), 10**8) == 1000


def test_collapsed_features_are_told():
    x = torch.eye(4, 6)[torch.arange(90) % 4] + 0.01
    with pytest.warns(UserWarning, match="collapsed"):
        prototypes(signals(embedding=x))


def test_refusals():
    x = signals().embedding.clone()
    x[7] = 0
    for criterion in (prototypes, supervised_prototypes):
        with pytest.raises(BadInput, match="507"):
            criterion(signals(embedding=x))
    pair = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    cancel = SimpleNamespace(ids=np.arange(2), embedding=pair, labels=torch.zeros(2))
    with pytest.raises(BadInput, match="cancel"):
        supervised_prototypes(cancel)
