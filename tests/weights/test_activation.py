"""AP: removing negative weights wakes neurons, rounds nest, the share may follow the round."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import prunus as px
from prunus.core.errors import BadInput
from prunus.measure.dead_neurons import dead_neurons
from prunus.schedule.ap import Ap


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), share=st.floats(0.05, 0.6))
def test_without_negative_weights_no_neuron_gets_less(seed, share):
    draw = torch.Generator().manual_seed(seed)
    first = nn.Linear(6, 5, bias=False)
    first.weight.data = torch.randn(5, 6, generator=draw)
    x = torch.rand(20, 6, generator=draw)
    net, y = nn.Sequential(first, nn.ReLU()), torch.zeros(20, dtype=torch.long)
    before = dead_neurons(net, (x, y))
    gone = (torch.rand(5, 6, generator=draw) < share) & (first.weight < 0)
    first.weight.data[gone] = 0
    after = dead_neurons(net, (x, y))
    assert after["zero_rate"][0] <= before["zero_rate"][0] and after["static_dead"][0] <= before["static_dead"][0]
    assert after["zero_rate"][0] == pytest.approx(after["static_dead"][0] + after["dynamic_dead"][0])


def trained(activation, **more):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4))
    draw = torch.Generator().manual_seed(1)
    rows = torch.randn(64, 1, 4, 4, generator=draw), torch.arange(64) % 4
    schedule = Ap("50% weights", fraction=0.2, activation=activation, **more)
    pruning = px.Pruning(net, schedule, total=schedule.whole(10), seed=0)
    pruning.fit(rows, batch=32, lr=0.1)
    return pruning, schedule


def test_rounds_keep_exact_counts_and_share_zero_is_the_criterion_alone():
    pruning, schedule = trained(0.05)
    size = 16 * 12 + 12 * 4
    assert schedule.rounds == 4
    assert sum(int(pruning.alive(name).sum()) for name in pruning.groups) == size // 2
    plain = px.Pruning(pruning.model, Ap("50% weights", activation=0.0), total=schedule.whole(10))
    assert plain.events.keys() == pruning.events.keys()
    asked = []

    def by_round(number):
        asked.append(number)
        return 0.02 * number

    trained(by_round)
    assert asked == [1, 2, 3, 4]


def test_what_is_no_activation_is_refused():
    with pytest.raises(BadInput, match="a part of fraction"):
        Ap("50% weights", activation=0.3)
    with pytest.raises(BadInput, match="no ReLU ran"):
        dead_neurons(nn.Flatten(), (torch.zeros(4, 3), torch.zeros(4, dtype=torch.long)))
