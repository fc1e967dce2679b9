"""Sampler and BatchSampler: epochs under one DataLoader, lengths, shards of ranks, resuming, weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from prunus.core.errors import BadInput, IdMismatch
from prunus.rows.dynamic import EpochPlan
from prunus.rows.rs2 import RS2
from prunus.rows.sampler import BatchSampler, Sampler

IDS = np.array([f"row{i:02d}" for i in range(30)])


def made(count=8, **options):
    return Sampler(RS2(IDS, count=count), IDS, **options)


def test_each_iter_is_the_next_epoch():
    sampler, dynamic = made(), RS2(IDS, count=8)
    for t in range(5):
        assert sampler.current == t
        assert len(sampler) == 8
        positions = list(sampler)
        assert set(IDS[positions]) == set(dynamic.epoch(t).ids)
        assert positions == made().positions(t).tolist()
        assert IDS[positions].tolist() != dynamic.epoch(t).ids.tolist()  # shuffled inside the epoch


def test_shuffle_false_keeps_the_order_of_the_dynamic():
    sampler = made(shuffle=False)
    assert IDS[list(sampler)].tolist() == RS2(IDS, count=8).epoch(0).ids.tolist()


def test_an_epoch_left_early_is_over():
    sampler = made()
    next(iter(sampler))
    assert list(sampler) == made().positions(1).tolist()
    sampler.set_epoch(7)
    assert list(sampler) == made().positions(7).tolist()


def test_len_follows_epochs_of_changing_size():
    sampler = Sampler(RS2(IDS, count=8, tail="official"), IDS)
    lengths = [(len(sampler), len(list(sampler))) for _ in range(6)]
    assert all(said == given for said, given in lengths)
    assert {said for said, _ in lengths} == {7, 8}


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("uneven", ["keep", "drop", "pad"])
def test_shards_of_ranks(world, uneven):
    ranks = [made(count=11, rank=rank, world_size=world, uneven=uneven) for rank in range(world)]
    shards = [list(sampler) for sampler in ranks]
    every = [p for shard in shards for p in shard]
    for sampler, shard in zip(ranks, shards):
        assert len(shard) == len(sampler)
    if uneven == "keep":
        assert sorted(every) == sorted(made(count=11).positions(0))
    if uneven == "drop":
        assert len(set(every)) == len(every) == 11 // world * world
    if uneven != "keep":
        assert len({len(shard) for shard in shards}) == 1
    if uneven == "pad":
        assert set(every) == set(made(count=11).positions(0))


def test_resuming_in_mid_epoch():
    whole = made()
    expected = [list(whole) for _ in range(3)]
    first = made()
    list(first)
    walk = iter(first)
    done = [next(walk) for _ in range(3)]
    state = first.state_dict()
    assert (state["epoch"], state["consumed"]) == (1, 3)
    second = made()
    second.load_state_dict(state)
    assert len(second) == 8
    assert done + list(second) == expected[1]
    assert list(second) == expected[2]
    twice = made()
    twice.load_state_dict(second.state_dict(epoch=1, consumed=5))
    assert list(twice) == expected[1][5:]


def test_one_loader_for_all_epochs():
    data = TensorDataset(torch.arange(30))
    loader = DataLoader(data, batch_size=3, sampler=made())
    for t in range(3):
        assert len(loader) == 3
        assert torch.cat([batch for (batch,) in loader]).tolist() == made().positions(t).tolist()


def test_persistent_workers_see_every_epoch():
    loader = DataLoader(TensorDataset(torch.arange(30)), 3, sampler=made(), num_workers=1, persistent_workers=True)
    for t in range(2):
        assert torch.cat([batch for (batch,) in loader]).tolist() == made().positions(t).tolist()


def test_batches():
    batches = BatchSampler(made(), 3, drop_last=True)
    assert len(batches) == 2
    walk = list(batches)
    assert [len(batch) for batch in walk] == [3, 3]
    assert len(BatchSampler(made(), 3)) == 3
    loader = DataLoader(TensorDataset(torch.arange(30)), batch_sampler=BatchSampler(made(), 3))
    assert torch.cat([batch for (batch,) in loader]).tolist() == made().positions(0).tolist()
    other = BatchSampler(made(), 3)
    other.load_state_dict(batches.state_dict(epoch=0, batches=1))
    assert next(iter(other)) == walk[1]
    other.set_epoch(4)
    assert other.sampler.current == 4


class Weighted:
    def epoch(self, t):
        return EpochPlan(IDS[[4, 2]], np.array([2.0, 0.5], dtype=np.float32))

    def seen(self, ids, loss):
        pass


def test_weights():
    sampler = Sampler(Weighted(), IDS)
    assert sampler.weights(["row02", "row04"]).tolist() == [0.5, 2.0]
    assert made().weights(["row02"]).tolist() == [1.0]
    assert float(sampler.loss(["row04", "row02"], torch.tensor([3.0, 1.0]))) == (2 * 3 + 0.5 * 1) / 2
    with pytest.raises(IdMismatch, match="row09"):
        sampler.weights(["row09"])


def test_refusals():
    with pytest.raises(BadInput, match=r"0..1, not 2"):
        made(rank=2, world_size=2)
    with pytest.raises(BadInput, match="uneven"):
        made(uneven="truncate")
    with pytest.raises(IdMismatch, match="not in the dataset"):
        list(Sampler(RS2(IDS, count=30), IDS[:9]))
    with pytest.raises(BadInput, match="seed 0"):
        made(seed=1).load_state_dict(made().state_dict())
    with pytest.raises(BadInput, match="schema"):
        made().load_state_dict({})
