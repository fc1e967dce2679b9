"""Signals against arrays of the authors' own code: what was measured, before any score is made of it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import nn

from prunus.signals.block_influence import cosine
from prunus.signals.collect import collect
from prunus.signals.dynamics import Dynamics, EpochRows
from prunus.signals.recorder import row_values


def linear(weight: np.ndarray, x: np.ndarray, *need: str):
    """Statistics of one linear layer's inputs `[sequences, tokens, in]`, two sequences at a time."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = torch.from_numpy(weight)
    rows = torch.from_numpy(np.ascontiguousarray(x)).to(layer.weight.dtype)

    def step(model, batch):
        from prunus.signals.step import Step

        return Step(batch[0], model(batch[1]), None, None)

    return collect(layer, (rows, torch.zeros(len(rows))), need, step=step, batch=2).modules[""]


def test_wanda_norm_has_the_scale_of_the_released_code(golden):
    case = golden("wanda--linear")
    stats = linear(case["W"], case["X"], "input_norm")
    np.testing.assert_allclose(stats.input_norm[:, 0].square().numpy(), case["scaler_row"], rtol=2e-6)
    metric = np.abs(case["W"]) * stats.per_output("input_norm", len(case["W"])).numpy()
    np.testing.assert_allclose(metric, case["metric"], rtol=2e-6)


def test_flap_mean_and_variance(golden):
    case = golden("flap--layers")
    for inputs, weight, part in (("XA", "W_o", "attn"), ("XM", "W_down", "mlp")):
        for layer in range(len(case[inputs])):
            stats = linear(case[weight][layer], case[inputs][layer], "input_mean", "input_var", "input_norm")
            np.testing.assert_allclose(stats.input_var[:, 0], case[f"{part}_token_variance"][layer], rtol=1e-5)
            np.testing.assert_allclose(stats.input_mean[:, 0], case[f"{part}_baseline"][layer], rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(stats.input_norm[:, 0].square(), case[f"{part}_scaler"][layer], rtol=1e-4)


def test_obspa_hessian_is_twice_the_second_moment(golden):
    case = golden("spa--obspa")
    x = case["X"]
    stats = linear(case["w0"], x.T[:, None, :], "hessian")
    np.testing.assert_allclose(stats.hessian, 2 * x @ x.T, rtol=1e-5, atol=1e-5)


def test_block_influence(golden):
    case = golden("shortgpt--block-influence")
    hidden = torch.from_numpy(case["hidden"])
    sums = [(1 - cosine(before, after)).sum() for before, after in pairwise(hidden)]
    np.testing.assert_allclose(torch.stack(sums), case["bi_sum"], rtol=1e-5)


def test_grand_of_a_two_layer_network(golden):
    case = golden("data-diet--scores")
    net = nn.Sequential(nn.Linear(*case["W1"].shape), nn.ReLU(), nn.Linear(*case["W2"].shape))
    for layer, weight, bias in ((net[0], "W1", "b1"), (net[2], "W2", "b2")):
        layer.weight.data, layer.bias.data = torch.from_numpy(case[weight].T.copy()), torch.from_numpy(case[bias])
    x, y = torch.from_numpy(case["X"]), torch.from_numpy(case["labels"])
    rows = collect(net, (x, y), ("grad_norm", "probs"), batch=11).rows
    np.testing.assert_allclose(rows.grad_norm, case["grand"], rtol=1e-5, atol=1e-6)
    el2n = (rows.probs - nn.functional.one_hot(y, rows.probs.shape[1])).norm(dim=1)
    np.testing.assert_allclose(el2n, case["net_el2n"], rtol=1e-5, atol=1e-6)


def test_training_log_accumulated_online(golden):
    case = golden("ccs--stratified")
    labels = case["labels"]
    dynamics = Dynamics(
        len(labels), ("aum", "el2n_sum", "forgetting", "correctness"), el2n_epochs=case.value("el2n_epochs")
    )
    for logits in torch.from_numpy(case["log_probs_f16"].astype(np.float32)):
        dynamics.update(EpochRows(np.arange(len(labels)), row_values(logits, torch.from_numpy(labels))))
    found = dynamics.fields()
    np.testing.assert_allclose(found["aum"], case["aum_accumulated_margin"], atol=2e-3)
    np.testing.assert_allclose(found["el2n_sum"], case["el2n_sum_first_epochs"], atol=2e-3)
    assert np.array_equal(found["forgetting"], case["forgetting"])
    assert np.array_equal(found["correctness"], case["correctness"])


def test_both_forgetting_conventions_follow_from_the_fields(golden):
    case = golden("data-diet--scores")
    correct = case["correct"].astype(bool)
    dynamics = Dynamics(correct.shape[1], ("forgetting", "never_learned", "seen"))
    for row in correct:
        dynamics.update(EpochRows(np.arange(len(row)), {"correct": row}))
    found = dynamics.fields()
    never = found["never_learned"]
    np.testing.assert_array_equal(np.where(never, np.inf, found["forgetting"]), case["forget_score_data_diet"])
    np.testing.assert_array_equal(np.where(never, found["seen"], found["forgetting"]), case["forget_score_toneva"])
