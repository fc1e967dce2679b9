"""Every family of the zoo: the cut model computes what the masked dense model computes, and stays a normal module."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from graph.zoo import SINGLE, ZOO, make
from prunus.graph.build import build
from prunus.graph.count import Counter
from prunus.graph.cut import cut
from prunus.graph.prove import prove
from prunus.graph.record import run, tensors_in

FULL_SHARE = set(ZOO) - {"swin", "shufflenet", "cifar_a"}


def choose(graph, seed=0, low=0.3, high=0.9):
    """Random kept units of every group."""
    rng = np.random.default_rng(seed)
    counts = {group.name: max(1, int(group.size * rng.uniform(low, high))) for group in graph.groups}
    return {g.name: np.sort(rng.choice(g.size, counts[g.name], replace=False)) for g in graph.groups}


@pytest.fixture(scope="module", params=list(ZOO))
def case(request):
    model, example = make(request.param)
    return request.param, model, example, build(model, example)


def test_mask_equivalence(case):
    name, model, example, graph = case
    assert prove(model, graph, choose(graph), example) < (1e-4 if name in SINGLE else 1e-9)


def test_one_group_at_a_time(case):
    name, model, example, graph = case
    rng = np.random.default_rng(1)
    for group in rng.permutation(np.array(graph.groups, dtype=object))[:1]:
        keep = {group.name: np.arange(group.size)[group.size // 2 :]}
        assert prove(model, graph, keep, example) < (1e-4 if name in SINGLE else 1e-9)


def test_most_parameters_can_be_pruned(case):
    name, _model, _, graph = case
    from prunus.prunables.model import prunable_share

    assert graph.groups
    assert prunable_share(graph) > (0.97 if name in FULL_SHARE else 0.3)


def test_counts_are_those_of_the_cut_model(case):
    _, model, example, graph = case
    keep = choose(graph, 2)
    small = cut(model, graph, keep)
    counts = Counter(graph).count({name: len(ids) for name, ids in keep.items()})
    assert counts.params == sum(p.numel() for p in small.parameters())
    assert counts.macs == Counter(build(small, example)).count().macs


def test_keep_all_is_identity(case):
    _, model, _example, graph = case
    same = cut(model, graph, {group.name: np.arange(group.size) for group in graph.groups})
    assert same is not model
    before, after = model.state_dict(), same.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_cut_is_a_normal_module(case):
    _, model, example, graph = case
    small = cut(model, graph, choose(graph, 3))
    assert list(small.state_dict()) == list(model.state_dict())
    assert type(small) is type(model)
    for a, b in zip(model.parameters(), small.parameters()):
        assert (a.dtype, a.device, a.requires_grad) == (b.dtype, b.device, b.requires_grad)
    outputs = [out for out in tensors_in(run(copy.deepcopy(small), example)) if out.is_floating_point()]
    sum(out.square().sum() for out in outputs).backward()
    with torch.no_grad():
        dense = [tuple(out.shape) for out in tensors_in(run(model, example)) if out.is_floating_point()]
    assert [tuple(out.shape) for out in outputs] == dense


def test_cut_twice_composes(case):
    _, model, example, graph = case
    first, second = choose(graph, 4, 0.6, 0.9), {}
    small = cut(model, graph, first)
    again = build(small, example)
    assert {group.name for group in again.groups} >= {n for n, ids in first.items() if len(ids) > 1}
    second = choose(again, 5)
    twice = cut(small, again, second)
    joint = {name: ids[second[name]] if name in second else ids for name, ids in first.items()}
    once = cut(model, graph, joint)
    assert all(torch.equal(a, b) for a, b in zip(once.state_dict().values(), twice.state_dict().values()))


@pytest.mark.parametrize("name", ["cifar_a", "resnext", "shufflenet", "vit", "llama", "gpt2", "timm_swin"])
def test_fake_groups_are_real_groups(name):
    model, example = make(name)
    fake, real = build(model, example), build(model, example, fake=False)
    assert [g.name for g in fake.groups] == [g.name for g in real.groups]
    for a, b in zip(fake.groups, real.groups):
        assert [(s.parameter, s.axis, s.role) for s in a.slots] == [(s.parameter, s.axis, s.role) for s in b.slots]
        assert all(np.array_equal(s.index, t.index) for s, t in zip(a.slots, b.slots))
