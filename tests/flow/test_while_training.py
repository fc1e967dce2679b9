"""The events of a schedule as masks: in a loop of one's own, and in prunus' loop."""

from __future__ import annotations

import copy
import gc

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from prunus.core.budget import Budget
from prunus.core.errors import BadInput, UnknownName
from prunus.flow.while_training import Pruning
from prunus.schedule.cubic import Cubic
from prunus.schedule.event import Event
from prunus.schedule.one_shot import OneShot
from prunus.train.models import TinyCNN, mlp, seeded


class Given:
    """Events as a dict."""

    def __init__(self, events):
        self.events = events

    def at(self, step, total):
        return self.events.get(step)


def rows(n=64):
    x = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return x, (x.mean((1, 2, 3)) > 0).long()


def batch(model, optimizer, data):
    optimizer.zero_grad()
    F.cross_entropy(model(data[0]), data[1]).backward()
    optimizer.step()


def own_loop(model, schedule, steps=10, method="magnitude", make=None, **settings):
    """A user's loop of full batches; yields after every step."""
    optimizer = make(model.parameters()) if make else torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    pruning = Pruning(model, schedule, method, optimizer=optimizer, total=steps, **settings)
    data = rows()
    for _ in range(steps):
        batch(model, optimizer, data)
        pruning.step()
        yield pruning, optimizer


def after(*arguments, **settings):
    """The Pruning at the end of that loop."""
    return list(own_loop(*arguments, **settings))[-1][0]


def zeros(model, masks):
    return all(bool((model.get_parameter(name)[~mask] == 0).all()) for name, mask in masks.named.items())


@pytest.mark.parametrize("make", [None, lambda p: torch.optim.AdamW(p, 0.01)])
def test_what_goes_stays_gone_and_counts_are_exact(make):
    model, seen = seeded(mlp, 0, 64, 32, 2), []
    for pruning, optimizer in own_loop(model, Cubic("20% weights", begin=2, end=8, every=2), make=make):
        assert zeros(model, pruning.masks)
        for name, mask in pruning.masks.named.items():
            for value in optimizer.state[model.get_parameter(name)].values():
                assert value.dim() < 2 or bool((value[~mask] == 0).all())
        seen.append(copy.deepcopy(pruning.masks.named))
    assert [len(masks) for masks in seen[:2]] == [0, 2]
    for before, after in zip(seen[1:], seen[2:]):
        assert all(bool((after[name] <= before[name]).all()) for name in before)
    for mask in seen[-1].values():
        assert int(mask.sum()) == mask.numel() - int(0.8 * mask.numel())
    assert pruning.density() == pytest.approx({"1.weight": 0.2, "3.weight": 0.2}, abs=0.01)


def test_the_same_run_in_prunus_loop():
    schedule, training = Cubic("30% weights", begin=1, end=8, every=3), {"lr": 0.1, "batch": 64, "nesterov": False}
    ours, own = seeded(mlp, 0, 64, 32, 2), seeded(mlp, 0, 64, 32, 2)
    pruning = Pruning(ours, schedule, total=10)
    (history,) = pruning.fit(rows(), schedule="constant", weight_decay=0.0, **training)
    other = after(own, schedule)
    assert history.steps == 10 and pruning.done == 10
    for name, mask in other.masks.named.items():
        assert torch.equal(mask, pruning.masks.named[name])
        torch.testing.assert_close(own.get_parameter(name), ours.get_parameter(name), rtol=1e-4, atol=1e-6)


def test_before_the_first_step_and_after_the_last():
    model = seeded(mlp, 0, 64, 32, 2)
    before = model[1].weight.detach().abs().flatten()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    pruning = Pruning(model, OneShot("50% weights"), optimizer=optimizer, total=3)
    kept = pruning.masks.named["1.weight"].flatten()
    assert float(before[kept].min()) >= float(before[~kept].max())
    for last, _ in own_loop(model, OneShot("25% weights", when=1.0)):
        assert bool(last.masks.named) == (last.done == last.total)
    assert last.density() == pytest.approx({"1.weight": 0.25, "3.weight": 0.25}, abs=0.01)


def test_any_method_and_any_cut():
    for method, settings in {
        "random": {},
        "lamp": {},
        "magnitude": {"within": "all", "minimum": 1.0},
        "wanda": {"data": rows(16)},
        "sparsegpt": {"data": rows(16)},
    }.items():
        model = seeded(TinyCNN, 0, 1, 4, 2)
        pruning = after(model, OneShot("40% weights", when=2), steps=4, method=method, **settings)
        size = sum(mask.numel() for mask in pruning.masks.named.values())
        assert pruning.masks.density() == pytest.approx(0.4, abs=12 / size), method
        assert zeros(model, pruning.masks)
    pruning = after(seeded(mlp, 0, 64, 32, 2), OneShot("2:4", when=1), steps=2)
    assert bool((pruning.masks.named["1.weight"].reshape(-1, 4).sum(1) == 2).all())


def test_scores_below_zero_and_budgets_that_rise_bring_nothing_back():
    ranks = Given({1: Event("prune", Budget.parse("30% weights")), 2: Event("prune", Budget.parse("60% weights"))})
    for within in ("group", "all", "output"):
        seen = []
        for pruning, _ in own_loop(seeded(mlp, 0, 64, 32, 2), ranks, 3, method="random", within=within):
            seen.append(pruning.masks.named)
        assert all(torch.equal(seen[0][name], seen[1][name]) for name in seen[0])


def test_dense_matrices_stay_whole_and_are_not_counted():
    pruning = after(seeded(mlp, 0, 64, 32, 2), OneShot("10% weights", when=1), 2, dense=("3.weight",))
    assert list(pruning.density()) == ["1.weight"]
    with pytest.raises(UnknownName, match=r"3\.weight"):
        Pruning(seeded(mlp, 0, 64, 32, 2), OneShot("10% weights"), total=2, dense=("3.weigth",))
    with pytest.raises(BadInput, match="no matrix is left"):
        Pruning(seeded(mlp, 0, 64, 2), OneShot("10% weights"), total=2, dense=("1.weight",))


def test_a_rewind_brings_the_remembered_weights_back_without_moments():
    events = {2: Event("remember"), 5: Event("rewind", Budget.parse("50% weights"), to=2)}
    model = seeded(TinyCNN, 0, 1, 4, 2)
    for pruning, optimizer in own_loop(model, Given(events), steps=8):
        if pruning.done == 2:
            early = copy.deepcopy(model.state_dict())
        if pruning.done == 5:
            assert pruning.position == 2 and not optimizer.state
            for name, value in model.state_dict().items():
                mask = pruning.masks.named.get(name, torch.ones((), dtype=torch.bool))
                assert torch.equal(value, early[name] * mask)
    assert (pruning.done, pruning.position) == (8, 5)


def test_ten_rounds_keep_memory_flat():
    """Numbers alive after every round, whether it prunes and rewinds, or exchanges."""
    events: dict[int, Event] = {0: Event("remember")}
    for round_ in range(1, 11):
        events[3 * round_] = Event("rewind", Budget.parse(f"{100 - 8 * round_}% weights"), to=0)
        events[3 * round_ + 1] = Event("regrow", needs=("grad",), exchange=0.2)
    alive = []
    for pruning, _ in own_loop(seeded(mlp, 0, 64, 100, 2), Given(events), steps=33):
        if pruning.done in events and events[pruning.done].kind == "regrow":
            gc.collect()
            alive.append(sum(o.numel() for o in gc.get_objects() if issubclass(type(o), torch.Tensor)))
    assert len(alive) == 10 and max(alive[2:]) <= alive[1]
    assert pruning.density()["1.weight"] == pytest.approx(0.2, abs=0.01)


def test_the_masks_make_a_plan():
    model = seeded(mlp, 0, 64, 32, 2)
    pruning = after(model, OneShot("25% weights", when=2), 3)
    plan = pruning.plan()
    for name, value in plan.apply(model).state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    assert plan.planned["weights"] == sum(int(np.count_nonzero(mask)) for mask in pruning.masks.named.values())


def test_bad_requests():
    model = seeded(mlp, 0, 64, 32, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(BadInput, match="step 900.*ends after 500"):
        Pruning(model, Cubic("10% weights", end=900), total=500)
    with pytest.raises(BadInput, match="optimizer"):
        Pruning(model, OneShot("10% weights"), total=5).step()
    with pytest.raises(BadInput, match="leave optimizer= out"):
        Pruning(model, OneShot("10% weights"), total=5, optimizer=optimizer).fit(rows())
    short = Pruning(model, OneShot("10% weights", when=0.0), total=0, optimizer=optimizer)
    with pytest.raises(BadInput, match="total=0"):
        short.step()
    with pytest.raises(BadInput, match="remember"):
        after(model, Given({1: Event("rewind", to=0)}), 2)
    grown = Pruning(model, Given({1: Event("regrow", exchange=0.5)}), total=2, optimizer=optimizer)
    optimizer.zero_grad()
    with pytest.raises(BadInput, match="before zero_grad"):
        grown.step()
    with pytest.raises(UnknownName):
        Pruning(model, OneShot("10% weights"), "magnitud", total=5)
