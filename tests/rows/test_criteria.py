"""Properties of the row criteria: ranges, invariances, chunks, and what they refuse."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.core.errors import BadInput
from prunus.core.registry import methods
from prunus.core.rng import Rng
from prunus.rows.aum import aum
from prunus.rows.correctness import correctness
from prunus.rows.deepfool import deepfool
from prunus.rows.el1n import el1n
from prunus.rows.el2n import el2n
from prunus.rows.entropy import entropy
from prunus.rows.forgetting import forgetting, from_matrix
from prunus.rows.grand_last_layer import grand_last_layer
from prunus.rows.least_confidence import least_confidence
from prunus.rows.margin import margin
from prunus.rows.margin_uncertainty import margin_uncertainty
from prunus.rows.random import random
from prunus.rows.random_balanced import random_balanced
from prunus.rows.targets import margin_to_rival
from prunus.rows.vog import vog

PER_ROW = {
    "el2n": el2n,
    "el1n": el1n,
    "margin": margin,
    "sum_margin": lambda s: margin(s, kind="sum"),
    "entropy": entropy,
    "least_confidence": least_confidence,
    "margin_uncertainty": margin_uncertainty,
    "grand_last_layer": grand_last_layer,
}
RANGES = {
    "el2n": (0, math.sqrt(2)),
    "el1n": (0, 2),
    "margin": (-1, 1),
    "entropy": (0, math.log(5)),
    "least_confidence": (0, 1),
    "margin_uncertainty": (0, 1),
    "sum_margin": (-4, 1),
}


def signals(seed=0, n=12, c=5, shift=0.0):
    torch_rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, c, generator=torch_rng)
    labels = torch.randint(0, c, (n,), generator=torch_rng)
    features = torch.randn(n, 4, generator=torch_rng)
    return SimpleNamespace(probs=(logits + shift).softmax(-1), labels=labels, embedding=features, ids=np.arange(n))


def rows(s, index):
    return SimpleNamespace(**{name: value[index] for name, value in vars(s).items()})


@pytest.mark.parametrize("name", PER_ROW)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_rows_are_scored_alone(name, seed):
    s, criterion = signals(seed), PER_ROW[name]
    whole = criterion(s)
    assert whole.shape == (12,)
    assert whole.dtype == torch.float32
    order = torch.from_numpy(np.random.default_rng(seed).permutation(12))
    torch.testing.assert_close(criterion(rows(s, order)), whole[order])
    chunked = torch.cat([criterion(rows(s, slice(i, i + 5))) for i in (0, 5, 10)])
    torch.testing.assert_close(chunked, whole)


@pytest.mark.parametrize("name", RANGES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_ranges_and_shift_of_logits(name, seed):
    low, high = RANGES[name]
    found = PER_ROW[name](signals(seed))
    assert (found >= low - 1e-6).all()
    assert (found <= high + 1e-6).all()
    torch.testing.assert_close(PER_ROW[name](signals(seed, shift=7.0)), found, rtol=1e-4, atol=1e-5)


def test_a_row_that_is_right_and_sure_has_no_error():
    s = SimpleNamespace(probs=torch.eye(4), labels=torch.arange(4))
    assert el2n(s).tolist() == el1n(s).tolist() == entropy(s).tolist() == [0.0] * 4
    assert margin(s).tolist() == [-1.0] * 4
    wrong = SimpleNamespace(probs=torch.eye(4), labels=torch.arange(4).roll(1))
    assert el2n(wrong).tolist() == pytest.approx([math.sqrt(2)] * 4)


def test_half_precision_is_widened_and_double_kept():
    s = signals()
    assert el2n(SimpleNamespace(probs=s.probs.half(), labels=s.labels)).dtype == torch.float32
    assert el2n(SimpleNamespace(probs=s.probs.double(), labels=s.labels)).dtype == torch.float64


def test_soft_labels():
    probs = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    s = SimpleNamespace(probs=probs, labels=probs)
    assert el2n(s).tolist() == [0.0, 0.0]
    with pytest.raises(BadInput, match="soft"):
        margin(s)
    with pytest.raises(BadInput, match="do not fit"):
        el2n(SimpleNamespace(probs=probs, labels=torch.ones(2, 3)))


def test_bad_labels_are_named():
    probs = torch.full((3, 2), 0.5)
    with pytest.raises(BadInput, match=r"\[2, -1\] are not in 0..1"):
        el2n(SimpleNamespace(probs=probs, labels=torch.tensor([0, 2, -1])))
    with pytest.raises(BadInput, match="2 labels for 3 rows"):
        margin(SimpleNamespace(probs=probs, labels=torch.tensor([0, 1])))
    with pytest.raises(BadInput, match="two classes"):
        margin_to_rival(torch.ones(2, 1), torch.zeros(2))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), bias=st.booleans())
def test_last_layer_grand_is_the_gradient_of_the_last_layer(seed, bias):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(6, 4, generator=generator)
    labels = torch.randint(0, 3, (6,), generator=generator)
    weight = torch.randn(3, 4, generator=generator, requires_grad=True)
    offset = torch.randn(3, generator=generator, requires_grad=True)
    norms = []
    for x, y in zip(features, labels):
        logits = torch.nn.functional.linear(x, weight, offset if bias else None)
        wanted = (weight, offset) if bias else (weight,)
        grads = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, y), wanted)
        norms.append(torch.cat([g.flatten() for g in grads]).norm())
    probs = torch.nn.functional.linear(features, weight, offset if bias else None).softmax(-1).detach()
    s = SimpleNamespace(probs=probs, labels=labels, embedding=features)
    torch.testing.assert_close(grand_last_layer(s, bias=bias), torch.stack(norms), rtol=1e-5, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), epochs=st.integers(1, 9), n=st.integers(1, 6))
def test_forgetting_events(data, epochs, n):
    record = data.draw(st.lists(st.lists(st.integers(0, 1), min_size=n, max_size=n), min_size=epochs, max_size=epochs))
    correct = torch.tensor(record)
    counts = from_matrix(correct)
    events, before = torch.zeros(n), torch.zeros(n)
    for row in correct:  # presentation by presentation, as a recorder sees it
        events += (before == 1) & (row == 0)
        before = row
    torch.testing.assert_close(counts["forgetting"].float(), events)
    assert (events <= epochs // 2).all()
    s = SimpleNamespace(**counts)
    never = ~correct.bool().any(0)
    assert (forgetting(s)[never] == epochs).all()
    assert (forgetting(s, never_learned="zero") == events).all()
    assert forgetting(s, never_learned="inf")[never].isinf().all()
    assert (correctness(s) == correct.sum(0)).all()
    assert (correctness(s, average=True) <= 1).all()


def test_forgetting_refusals():
    with pytest.raises(BadInput, match="0 or 1"):
        from_matrix(torch.tensor([[0.5]]))
    zeros = torch.zeros(2)
    counts = SimpleNamespace(forgetting=zeros, never_learned=zeros, seen=torch.tensor([3, 0]))
    with pytest.raises(BadInput, match="1 rows were never presented"):
        forgetting(counts)
    counts.seen += 1
    with pytest.raises(BadInput, match="max, inf or zero"):
        forgetting(counts, never_learned="none")


def test_aum_average():
    s = SimpleNamespace(aum=torch.tensor([3.0, -4.0]), seen=torch.tensor([4, 4]))
    assert aum(s).tolist() == [3.0, -4.0]
    assert aum(s, average=True).tolist() == [0.75, -1.0]


def test_random_depends_on_ids_only():
    s = SimpleNamespace(ids=np.array(["a", "b", "c"]))
    one, other = random(s, rng=Rng(3, "x")), random(SimpleNamespace(ids=s.ids[::-1]), rng=Rng(3, "x"))
    assert one.tolist() == other.tolist()[::-1]


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(1, 15), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_random_balanced_keeps_equal_shares_at_every_budget(sizes, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    s = SimpleNamespace(ids=np.arange(labels.size), labels=torch.from_numpy(labels))
    order = np.argsort(-random_balanced(s, rng=Rng(seed, "x")).numpy(), kind="stable")
    for count in range(labels.size + 1):
        kept = np.bincount(labels[order[:count]], minlength=len(sizes))
        shares = count * np.array(sizes) / labels.size
        assert (np.abs(kept - shares) <= 1 + len(sizes) / 2).all()
        assert count < labels.size or (kept == sizes).all()


def test_random_balanced_needs_whole_labels():
    with pytest.raises(BadInput, match="one label for each row"):
        random_balanced(SimpleNamespace(ids=np.arange(2), labels=torch.ones(2, 2)), rng=Rng(0, "x"))


def test_every_row_method_says_what_the_page_needs():
    for method in methods(unit="rows"):
        for section in ("Removes", "Needs", "Cost", "Departures"):
            assert method.section(section), f"{method.path} lacks {section}"
        assert all(option.help for option in method.options), method.path


def test_deepfool_parity():
    s = SimpleNamespace(boundary_distance=torch.tensor([0.5, 2.0]))
    assert deepfool(s).tolist() == [0.5, 2.0]
    assert deepfool(s, parity="official").tolist() == [0.25, 4.0]


def test_vog_within_classes():
    s = SimpleNamespace(
        ids=np.arange(5),
        labels=torch.tensor([0, 1, 0, 1, 2]),
        gradient_variance=torch.tensor([1.0, 10.0, 3.0, 14.0, 7.0]),
        gradient_std=torch.tensor([1.0, 3.0, 2.0, 4.0, 2.0]),
    )
    assert vog(s).tolist() == [1, 10, 3, 14, 7]
    assert vog(s, parity="official").tolist() == [1, 3, 2, 4, 2]
    assert vog(s, normalise="class").tolist() == [-1, -1, 1, 1, 0]
