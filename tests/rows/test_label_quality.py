"""Label quality: what it ranks last, its arithmetic, folds, and what it refuses."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import prunus as px
from prunus.core.errors import BadInput, NonFinite
from prunus.core.rng import Rng
from prunus.flow.rows import score_rows
from prunus.flow.signals import Fit
from prunus.maths.confident import adjusted, thresholds
from prunus.rows.label_quality import label_quality
from prunus.signals.held_out_probs import folds_of, probe
from prunus.train.models import mlp, seeded

RNG = Rng(0, "x")


def blobs(n=150, wrong=15, seed=0):
    """Three well separated classes; the first `wrong` rows carry the next class's label."""
    random = np.random.RandomState(seed)
    truth = np.arange(n) % 3
    x = random.randn(n, 4) + 4 * np.eye(4)[truth]
    labels = truth.copy()
    labels[:wrong] = (truth[:wrong] + 1) % 3
    return x.astype(np.float32), labels


def test_wrong_labels_come_last_by_both_doors():
    x, labels = blobs()
    data = px.Dataset((x, labels))
    by_probe = px.score(data, "label_quality", signals=px.Signals(ids=data.ids, embedding=x))
    fit = Fit(lambda: seeded(mlp, 0, 4, 16, 3), steps=60, settings={"batch": 32, "progress": False}, folds=3)
    by_training = px.score(data, "label_quality", fit=fit)
    for score in (by_probe, by_training):
        assert score.sense == "easy"
        assert set(np.argsort(score.values["rows"])[:13].tolist()) <= set(range(15))


PROBS = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4]])
S = SimpleNamespace(ids=np.arange(4), labels=torch.tensor([0, 0, 1, 1]), held_out_probs=PROBS)


def test_arithmetic():
    assert label_quality(S, adjust=False, rng=RNG).tolist() == pytest.approx([0.7, 0.5, 0.6, 0.3])
    margin = label_quality(S, adjust=False, measure="normalised_margin", rng=RNG)
    assert margin.tolist() == pytest.approx([0.75, 0.55, 0.7, 0.45])
    limits = thresholds(PROBS.double().numpy(), S.labels.numpy(), S.ids)
    assert limits.tolist() == pytest.approx([0.6, 0.45, 0.6])  # no row of class 2: the largest of the others
    first = np.array([0.7, 0.35, 0.1])
    assert label_quality(S, adjust=True, rng=RNG)[0] == pytest.approx(first[0] / first.sum())
    assert adjusted(PROBS.double().numpy(), limits).sum(1).tolist() == pytest.approx([1] * 4)


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4), folds=st.integers(2, 5), seed=st.integers(0, 99))
def test_folds_are_even_in_size_and_in_class(sizes, folds, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    ids = np.arange(labels.size) * 7
    if 1 < len(sizes) == labels.size:
        with pytest.raises(BadInput, match="a class of its own"):
            folds_of(ids, labels, folds, Rng(seed, "x"))
        return
    found = folds_of(ids, labels, folds, Rng(seed, "x"))
    order = np.random.RandomState(seed).permutation(labels.size)
    assert (folds_of(ids[order], labels[order], folds, Rng(seed, "x")) == found[order]).all()
    for part in (found, *(found[labels == label] for label in range(len(sizes)))):
        counts = np.bincount(part, minlength=folds)
        assert counts.max() - counts.min() <= 1


def test_held_out_rows_were_not_trained_on():
    """A label that nothing explains is predicted wrongly, however well a model could learn it by heart."""
    random = np.random.RandomState(0)
    x = random.randn(40, 60)
    labels = random.randint(0, 2, 40)
    held_out = probe(x, labels, np.arange(40), ridge=1e-3, rng=RNG)[np.arange(40), labels]
    assert held_out.mean() < 0.65
    names: list[set[int]] = []

    class Spy(torch.nn.Linear):
        def forward(self, x):
            if self.training:
                names[-1].update(x[:, 0].int().tolist())
            return super().forward(x)

    def spy():
        names.append(set())
        return Spy(1, 2)

    data = px.Dataset((np.arange(9, dtype=np.float32)[:, None], np.arange(9) % 2))
    Fit(spy, epochs=1, settings={"progress": False, "batch": 4}, folds=3).run(data, ("held_out_probs",))
    fold = folds_of(data.ids, np.arange(9) % 2, 3, Rng(0, "folds"))
    assert names == [set(data.ids[fold != number].tolist()) for number in range(3)]


def test_one_class_and_classes_of_one_row():
    x = np.random.RandomState(0).randn(6, 2)
    one = SimpleNamespace(ids=np.arange(6), labels=torch.ones(6).long(), embedding=x)
    assert label_quality(one, rng=RNG).tolist() == [1.0] * 6
    alone = SimpleNamespace(ids=np.arange(6), labels=torch.tensor([0, 0, 0, 2, 2, 5]), embedding=x)
    with pytest.warns(UserWarning, match=r"classes \[5\] have one row each"):
        assert label_quality(alone, adjust=False, rng=RNG)[5] < 0.2
    with pytest.raises(BadInput, match="each of 3 rows has a class of its own"):
        label_quality(SimpleNamespace(ids=np.arange(3), labels=torch.arange(3), embedding=x[:3]), rng=RNG)


def test_refusals():
    data = px.Dataset((np.zeros((3, 2), np.float32), np.array([0, 1, 7])))
    with pytest.raises(BadInput, match=r"labels \[7\] are not in 0..1"):
        score_rows(data, "label_quality", signals=px.Signals(ids=data.ids, held_out_probs=np.full((3, 2), 0.5)))
    with pytest.raises(BadInput, match=r"labels \[-1\] are not in"):
        label_quality(SimpleNamespace(ids=data.ids, labels=torch.tensor([0, 1, -1]), embedding=np.eye(3)), rng=RNG)
    held = torch.tensor([[0.5, 0.5], [3.0, -2.0]])
    made = SimpleNamespace(ids=np.arange(2), labels=torch.arange(2), held_out_probs=held)
    with pytest.raises(BadInput, match=r"ids \[1\], are no probabilities"):
        label_quality(made, rng=RNG)
    three = SimpleNamespace(
        ids=np.arange(3), labels=torch.tensor([1, 1, 1]), embedding=np.array([[0.0], [np.nan], [1.0]])
    )
    with pytest.raises(NonFinite, match=r"ids \[1\]"):
        label_quality(three, rng=RNG)
    four = SimpleNamespace(ids=np.arange(4), labels=torch.tensor([0, 1, 1, 0]), embedding=np.eye(4))
    with pytest.raises(BadInput, match="2 folds or more, not 1"):
        label_quality(four, folds=1, rng=RNG)
