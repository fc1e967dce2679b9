"""Early-training scores against the released functions: EL2N, EL1N, margins, GraNd, mean, subsets, forgetting."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prunus.core.score import GroupScore, Score
from prunus.rows import runs
from prunus.rows.el1n import el1n
from prunus.rows.el2n import el2n
from prunus.rows.forgetting import forgetting, from_matrix
from prunus.rows.grand import grand
from prunus.rows.grand_last_layer import grand_last_layer
from prunus.rows.margin import margin
from prunus.select.top import top
from prunus.signals.collect import collect

pytestmark = [pytest.mark.golden("data-diet--scores"), pytest.mark.filterwarnings("ignore:below about 30")]
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def signals(case, logits, **more):
    labels = torch.from_numpy(case["labels"])
    return SimpleNamespace(probs=torch.from_numpy(case[logits]).softmax(-1), labels=labels, **more)


def network(case):
    """The two-layer net of the case."""
    hidden, outputs = case["W1"].shape[1], case["W2"].shape[1]
    net = torch.nn.Sequential(
        torch.nn.Linear(case["W1"].shape[0], hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, outputs)
    )
    with torch.no_grad():
        for layer, number in ((net[0], 1), (net[2], 2)):
            layer.weight.copy_(torch.from_numpy(case[f"W{number}"]).T)
            layer.bias.copy_(torch.from_numpy(case[f"b{number}"]))
    return net.eval()


def test_scores_of_the_logits(case):
    s = signals(case, "logits")
    for found, name in (
        (el2n(s), "el2n"),
        (el1n(s), "el1n"),
        (margin(s), "max_margin"),
        (margin(s, kind="sum"), "sum_margin"),
    ):
        np.testing.assert_allclose(found, case[name], err_msg=name, **CLOSE)


def test_one_hot_labels_give_the_same_scores(case):
    s = signals(case, "logits")
    rows = torch.nn.functional.one_hot(s.labels, s.probs.shape[1])
    other = SimpleNamespace(probs=s.probs, labels=rows)
    for score in (el2n, el1n, margin):
        np.testing.assert_array_equal(score(other), score(s))


def test_grand_of_the_net(case):
    net, inputs = network(case), torch.from_numpy(case["X"])
    np.testing.assert_allclose(net(inputs).detach(), case["net_logits"], rtol=1e-4, atol=1e-5)
    rows = collect(net, (inputs, torch.from_numpy(case["labels"])), need=("grad_norm",), batch=17).rows
    np.testing.assert_allclose(grand(rows), case["grand"], **CLOSE)


def test_net_el2n_and_the_closed_form_of_the_last_layer(case):
    features = network(case)[:2](torch.from_numpy(case["X"])).detach()
    s = signals(case, "net_logits", embedding=features)
    np.testing.assert_allclose(el2n(s), case["net_el2n"], **CLOSE)
    np.testing.assert_allclose(grand_last_layer(s), case["grand_last_layer_closed_form"], **CLOSE)


def test_mean_of_two_runs(case):
    scores = [Score("rows", {"all": el2n(signals(case, name)).numpy()}, "hard") for name in ("logits", "net_logits")]
    np.testing.assert_allclose(runs.mean(scores).values["all"], case["mean_score"], **CLOSE)


def test_subsets(case):
    score = GroupScore(case["mean_score"], np.arange(case["mean_score"].size), "hard")
    size, offset = int(case.value("subset_size")), int(case.value("subset_offset"))
    for name, options in (
        ("keep_max_scores_idx", {}),
        ("keep_min_scores_idx", {"keep": "easiest"}),
        ("offset_idx", {"keep": "easiest", "offset": offset}),
    ):
        np.testing.assert_array_equal(np.sort(top(score, size, **options)), case[name], err_msg=name)


def test_both_forgetting_conventions(case):
    s = SimpleNamespace(**from_matrix(torch.from_numpy(case["correct"])))
    np.testing.assert_array_equal(forgetting(s), case["forget_score_toneva"])
    np.testing.assert_array_equal(forgetting(s, never_learned="inf"), case["forget_score_data_diet"])
