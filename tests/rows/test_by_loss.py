"""InfoBatch and SeTa: what they keep and why, weights, reports of losses, resuming in mid-epoch, lengths, bad input."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from prunus.core.errors import BadInput, IdMismatch, NonFinite
from prunus.rows.infobatch import InfoBatch
from prunus.rows.lengths import scheduler_steps
from prunus.rows.rs2 import RS2
from prunus.rows.sampler import BatchSampler, Sampler
from prunus.rows.seta import SeTa
from prunus.signals.recorder import WithIds

N = 97
IDS = np.array([f"{(i * 31) % N:03d}.png" for i in range(N)])
METHODS = pytest.mark.parametrize("method", [InfoBatch, SeTa])


def losses(ids, t=0):
    return np.array([((int(i[:3]) * 37) % 101) / 101 + 0.1 for i in ids], dtype=np.float32) ** 2 / (t + 1)


def trained(method, done, /, **options):
    made = method(IDS, **options)
    for t in range(done):
        ids = made.epoch(t).ids
        made.seen(ids, losses(ids, t))
    return made


# ---- infobatch -------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 60), seed=st.integers(0, 9), ratio=st.sampled_from([0.0, 0.25, 0.5, 0.9]))
def test_infobatch_keeps_all_hard_rows_and_a_share_of_the_others(n, seed, ratio):
    method = InfoBatch(np.arange(n), seed=seed, prune_ratio=ratio)
    assert len(method.epoch(0)) == n and method.epoch(0).weights is None
    method.seen(np.arange(n), np.random.default_rng(seed).exponential(size=n))
    easy = method.well_learnt()
    plan = method.epoch(1)
    kept = np.isin(np.arange(n), plan.ids)
    assert kept[~easy].all()
    assert kept[easy].sum() == int((1 - ratio) * easy.sum())
    weights = np.ones(len(plan)) if plan.weights is None else plan.weights
    np.testing.assert_allclose(weights, np.where(easy[kept], 1 / (1 - ratio), 1.0), rtol=1e-6)
    assert abs(weights.sum() - n) < 1 / (1 - ratio) + 1e-4
    least, most = method.bounds(1)
    assert least <= len(plan) <= most


def test_infobatch_is_unbiased():
    """The weighted gradient of a linear model, over 2,000 draws of an epoch, is that of all rows."""
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(N, 3)), draw.normal(size=N)
    per_row = -2 * y[:, None] * x  # gradient of (x w - y)^2 at w = 0
    whole, found = per_row.sum(0), []
    values = y**2
    for seed in range(2000):
        method = InfoBatch(np.arange(N), seed=seed)
        method.seen(np.arange(N), values)
        plan = method.epoch(1)
        found.append((plan.weights[:, None] * per_row[plan.ids]).sum(0))
    short = 1 - int(0.5 * method.well_learnt().sum()) / (0.5 * method.well_learnt().sum())  # what the floor takes away
    easy = per_row[method.well_learnt()].sum(0)
    error = np.std(found, axis=0) / np.sqrt(2000)
    assert (np.abs(np.mean(found, axis=0) - (whole - short * easy)) < 4 * error).all()


def test_infobatch_anneals_and_warms_up():
    fresh = InfoBatch(IDS, epochs=10, delta=0.5, warmup=2)
    sizes = [fresh.bounds(t)[0] == N for t in range(10)]
    assert sizes == [True, True, False, False, False, True, True, True, True, True]
    for t in range(10):
        plan = fresh.epoch(t)
        assert (len(plan) == N) == sizes[t]
        assert (plan.weights is None) == sizes[t]
        fresh.seen(plan.ids, losses(plan.ids, t))


def test_infobatch_without_rescaling_has_no_weights():
    plan = trained(InfoBatch, 2, rescale=False).epoch(2)
    assert len(plan) < N and plan.weights is None


# ---- seta ------------------------------------------------------------------------------------------------------------


def test_seta_groups_are_intervals_and_windows_cycle():
    method = SeTa(IDS, groups=6, window=0.5, seed=2)
    method.seen(IDS, losses(IDS))
    groups, ordered = method.grouped(3), losses(np.sort(IDS))
    assert (groups.of >= 0).sum() == int(0.9 * N)
    assert (np.diff(groups.centres) > 0).all()
    highs = [ordered[groups.of == g].max() for g in range(6)]
    lows = [ordered[groups.of == g].min() for g in range(6)]
    assert all(high < low for high, low in zip(highs, lows[1:]))
    assert [method.span(t, 6) for t in range(6)] == [(0, 6), (1, 4), (2, 5), (3, 6), (0, 3), (1, 4)]


def test_seta_with_one_group_is_random_pruning_and_with_quantiles_is_of_known_size():
    assert {len(trained(SeTa, t, groups=1, window=1.0, prune_ratio=0.3).epoch(t)) for t in range(4)} == {int(0.7 * N)}
    method = trained(SeTa, 5, grouping="quantile", groups=5, window=0.6)
    least, most = method.bounds(5)
    assert most - least <= 3
    assert least <= len(method.epoch(5)) <= most


def test_seta_with_fewer_losses_than_groups_makes_fewer_groups():
    method = SeTa(np.arange(20), prune_ratio=0.0, groups=5, window=0.6)
    method.seen(np.arange(20), np.repeat([1.0, 2.0], 10))
    assert method.grouped(1).centres.tolist() == [1.0, 2.0]
    assert len(method.epoch(1)) == 10


def test_seta_anneals_on_the_random_part():
    method = trained(SeTa, 9, epochs=10, delta=0.5)
    assert len(method.epoch(9)) == int(0.9 * N) == method.bounds(9)[0] == method.bounds(9)[1]


# ---- both ------------------------------------------------------------------------------------------------------------


@METHODS
def test_losses_change_where_they_were_seen_only(method):
    made = trained(method, 2)
    plan, before = made.epoch(2), made.loss.copy()
    made.seen(plan.ids, losses(plan.ids, 2))
    at = made.rows.ranks(plan.ids)
    rest = np.setdiff1d(np.arange(N), at)
    np.testing.assert_array_equal(made.loss[rest], before[rest])
    np.testing.assert_allclose(made.loss[at], losses(plan.ids, 2))


@METHODS
def test_an_epoch_is_settled_when_it_is_asked_for(method):
    made = trained(method, 2)
    size = made.size(2)
    plan = made.epoch(2)
    assert len(plan) == size
    made.seen(IDS, losses(IDS, 7)[::-1])
    assert made.epoch(2) is plan
    with pytest.raises(BadInput, match="epoch 1 is over: epoch 2"):
        made.epoch(1)


@METHODS
def test_the_length_asked_too_early_settles_nothing(method):
    early, late = trained(method, 2), trained(method, 2)
    for made in (early, late):
        ids = made.epoch(2).ids
        made.seen(ids[:9], losses(ids[:9], 2))
        if made is early:
            made.size(3)  # such as a progress bar's while batches are still on their way
        made.seen(ids[9:], losses(ids[9:], 2))
    assert early.epoch(3).ids.tolist() == late.epoch(3).ids.tolist()


def loop(sampler, epochs, log, stop=None):
    """A user's loop; `stop` leaves it after so many batches of the last epoch, without that epoch's end."""
    batches = BatchSampler(sampler, 8)
    for t in range(epochs):
        for number, batch in enumerate(batches):
            if t == epochs - 1 and number == stop:
                return batches
            ids = IDS[batch]
            log.append((ids.tolist(), sampler.weights(ids).tolist()))
            sampler.loss(ids, torch.from_numpy(losses(ids, len(log))))
    return batches


@METHODS
def test_resuming_in_mid_epoch_with_losses_and_weights(method):
    whole, first, second = [], [], []
    loop(Sampler(method(IDS, seed=1), IDS, seed=5), 4, whole)
    sampler = Sampler(method(IDS, seed=1), IDS, seed=5)
    batches = loop(sampler, 2, first, stop=3)
    state = copy.deepcopy(batches.state_dict(epoch=1, batches=3))
    again = Sampler(method(IDS, seed=1), IDS, seed=5)
    again.load_state_dict(state)
    second += first
    loop(again, 3, second)
    assert second == whole


@METHODS
def test_a_loader_with_workers_that_stay(method):
    data = WithIds([(torch.zeros(1), i) for i in range(N)], IDS)
    plain, workers, pids = [], [], []
    for log, options in ((plain, {}), (workers, {"num_workers": 2, "persistent_workers": True})):
        sampler = Sampler(method(IDS), IDS, data=data)
        loader = DataLoader(data, 8, sampler=sampler, **options)
        for t in range(3):
            said, batches = len(loader), 0
            for ids, _, _ in loader:
                log.append((list(ids), float(sampler.loss(ids, torch.from_numpy(losses(ids, t))))))
                batches += 1
            assert said == batches
            if options:
                pids.append([worker.pid for worker in loader._iterator._workers])
    assert plain == workers
    assert pids[0] == pids[1] == pids[2]


@METHODS
def test_bad_losses(method):
    sampler = Sampler(method(IDS), IDS)
    good = torch.ones(2)
    with pytest.raises(BadInput, match="losses came without ids"):
        sampler.loss(None, good)
    with pytest.raises(BadInput, match="losses came without ids"):
        sampler.dynamic.seen(None, good.numpy())
    with pytest.raises(BadInput, match=r"losses \[\] for ids \[2\].*reduction='none'"):
        sampler.loss(IDS[:2], good.mean())
    with pytest.raises(BadInput, match=r"losses \[2\] for ids \[3\]"):
        sampler.loss(IDS[:3], good)
    with pytest.raises(IdMismatch, match=r"not in the dataset.*stranger"):
        sampler.loss(["stranger", IDS[0]], good)
    with pytest.raises(IdMismatch, match="ids of the dataset are"):
        sampler.loss(torch.arange(2), good)


@METHODS
def test_a_loss_that_is_not_finite_is_reported_and_its_row_stays(method):
    made = trained(method, 1)
    bad = IDS[[5, 50]]
    with pytest.raises(NonFinite, match=rf"{bad[0]}.*{bad[1]}.*2 of 3 in the batch"):
        made.seen(IDS[[5, 50, 7]], np.array([np.nan, np.inf, 0.25]))
    assert made.loss[made.rows.ranks(IDS[[7]])] == 0.25  # the others are written
    assert sorted(made.not_finite) == sorted(bad)
    for t in range(1, 5):
        assert set(bad) <= set(made.epoch(t).ids)
    assert t > 1 and len(made.epoch(4)) < N  # and pruning goes on
    made.seen(bad, np.ones(2))
    assert made.not_finite.size == 0


@METHODS
def test_states_of_another_seed_length_or_option_are_refused_with_both_values(method):
    state = Sampler(trained(method, 2, seed=1), IDS).state_dict()
    with pytest.raises(BadInput, match=r"'seed': 1.*'seed': 2"):
        Sampler(method(IDS, seed=2), IDS).load_state_dict(state)
    with pytest.raises(IdMismatch, match="97 of them, now there are 96"):
        Sampler(method(IDS[:96], seed=1), IDS).load_state_dict(state)
    with pytest.raises(BadInput, match=r"'delta': 0.875.*'delta': 0.5"):
        method(IDS, seed=1, delta=0.5).load_state_dict(state["dynamic"])
    with pytest.raises(BadInput, match="seed 0, this sampler has 3"):
        Sampler(method(IDS, seed=1), IDS, seed=3).load_state_dict(state)
    with pytest.raises(BadInput, match="begun by 1 ranks"):
        Sampler(method(IDS, seed=1), IDS, world_size=2, uneven="pad").load_state_dict({**state, "consumed": 4})


def test_a_data_set_that_changes_its_length_is_refused():
    data = list(range(N))
    sampler = Sampler(InfoBatch(IDS), IDS, data=data)
    list(sampler)
    data.append(N)
    with pytest.raises(BadInput, match="98 rows, the ids are 97"):
        iter(sampler)


def test_ranks_that_share_losses_need_equal_lengths():
    with pytest.raises(BadInput, match="'drop' or 'pad'"):
        Sampler(InfoBatch(IDS), IDS, world_size=2)
    with pytest.raises(BadInput, match="init_process_group"):
        Sampler(InfoBatch(IDS), IDS, world_size=2, uneven="pad").loss(IDS[:1], torch.ones(1))


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (InfoBatch, {"prune_ratio": 0.95}, "0.9"),
        (InfoBatch, {"warmup": -1}, "warmup"),
        (InfoBatch, {"delta": 1.5}, "delta"),
        (InfoBatch, {"epochs": 0}, "epochs"),
        (InfoBatch, {"parity": "code"}, "parity"),
        (SeTa, {"prune_ratio": -0.1}, "prune_ratio"),
        (SeTa, {"window": 0.05}, "holds no group"),
        (SeTa, {"grouping": "median"}, "grouping"),
    ],
)
def test_bad_options(method, options, message):
    with pytest.raises(BadInput, match=message):
        method(IDS, **options)


def test_draws_of_others_are_checked():
    method = InfoBatch(IDS, draw=lambda t, ids, count: ids[:1])
    method.seen(IDS, losses(IDS))
    with pytest.raises(BadInput, match="distinct ids of those given"):
        method.epoch(1)
    with pytest.raises(BadInput, match="distinct ids of those given"):
        SeTa(IDS, draw=lambda t, ids, count: np.repeat(ids[:1], count)).epoch(0)


# ---- lengths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"drop_last": True}, {"accumulate": 3}])
def test_scheduler_steps_of_rs2_are_exact(options):
    steps = scheduler_steps(Sampler(RS2(IDS, count=30), IDS), 5, 8, **options)
    batches = 5 * [BatchSampler(Sampler(RS2(IDS, count=30), IDS), 8, drop_last=options.get("drop_last", False))]
    expected = sum(-(-len(one) // options.get("accumulate", 1)) for one in batches)
    assert steps.least == steps.most == expected


@METHODS
def test_scheduler_steps_hold_what_really_comes(method):
    sampler, log = Sampler(method(IDS, epochs=6), IDS), []
    least, most = scheduler_steps(sampler, 6, 8)
    loop(sampler, 6, log)
    assert least <= len(log) <= most
    with pytest.raises(BadInput, match="batches of 0"):
        scheduler_steps(sampler, 6, 0)
