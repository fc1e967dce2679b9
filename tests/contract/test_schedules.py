"""Contract of schedules: data that answer `at(step, total)`, on a training of 20 steps and a network of 64 units."""

from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError

import pytest
import torch
import torch.nn.functional as F

from contract import fixtures
from contract.catalogue import every
from contract.checks import generators_alone, threads
from prunus.core.errors import BadInput
from prunus.flow.while_training import Pruning
from prunus.schedule.event import events_of

schedules = every("schedule")
STEPS, BUDGET = 20, "40% weights"
EVERY = {"every": 4, "rounds": 8}


def made(method, **options):
    """The schedule; those that repeat do so every 4 steps or in 8 rounds."""
    own = {name: value for name, value in EVERY.items() if name in method.keywords}
    return method.load()(BUDGET, **{**own, **options})


def trained(method, **settings):
    """A full-batch training under the schedule."""
    model = fixtures.model("weights").train()
    x, y = fixtures.arrays()[1:]
    data = torch.from_numpy(x), torch.from_numpy(y)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    pruning = Pruning(model, made(method), total=STEPS, optimizer=optimizer, seed=3, **settings)
    alive = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(model(data[0]), data[1]).backward()
        optimizer.step()
        pruning.step()
        alive.append(sum(int(pruning.alive(name).sum()) for name in pruning.groups))
    return pruning, alive


@schedules
def test_answers_depend_on_the_arguments_only(method):
    schedule = made(method)
    with generators_alone():
        first = events_of(schedule, STEPS)
    assert first and min(first) >= 0 and max(first) <= STEPS
    backwards = {step: schedule.at(step, STEPS) for step in range(STEPS, -1, -1)}
    assert {step: event for step, event in sorted(backwards.items()) if event is not None} == first
    assert events_of(copy.deepcopy(schedule), STEPS) == first == events_of(made(method), STEPS)
    with pytest.raises(FrozenInstanceError):
        next(iter(first.values())).kind = "prune"


@schedules
def test_a_training_that_ends_before_the_last_event_is_refused(method):
    places = [name for name in ("end", "when") if name in method.keywords]
    for name in places:
        with pytest.raises(BadInput, match=f"{name} is step 21, and the training ends after 20"):
            events_of(made(method, **{name: 21}), STEPS)
        with pytest.raises(BadInput, match="share of the training"):
            events_of(made(method, **{name: 1.5}), STEPS)
    if "rounds" in method.keywords:
        with pytest.raises(BadInput, match="20 steps is too short for 30 rounds"):
            events_of(made(method, rounds=30), STEPS)
    assert places or "rounds" in method.keywords, f"{method.id} has no option that says when it ends"


@schedules
@pytest.mark.parametrize("budget", ["40% rows", "2.5 weights", "", "140% weights"])
def test_what_is_no_budget_of_weights_is_refused(method, budget):
    with pytest.raises(BadInput):
        events_of(method.load()(budget), STEPS)


@schedules
def test_the_budget_is_met_and_nothing_is_left_on_the_model(method):
    pruning, alive = trained(method)
    sizes = [group.size for group in pruning.groups.values()]
    within = max(len(sizes), 0.01 * sum(sizes))
    assert 0.4 * sum(sizes) - within <= alive[-1] < sum(sizes)
    if any(event.budget is not None for event in pruning.events.values()):  # else the weights say how far it goes
        assert alive[-1] <= 0.4 * sum(sizes) + within
    for name, mask in pruning.masks.named.items():
        assert bool((pruning.model.get_parameter(name)[~mask] == 0).all())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in pruning.model.modules())
    assert pruning.model.state_dict().keys() == fixtures.model("weights").state_dict().keys()
    copy.deepcopy(pruning.model)


@schedules
def test_the_same_training_gives_the_same_masks(method):
    first, _ = trained(method)
    with threads(2):
        again, _ = trained(method)
    for name, mask in first.masks.named.items():
        assert torch.equal(mask, again.masks.named[name])
