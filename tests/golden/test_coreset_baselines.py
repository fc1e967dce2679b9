"""Classical coreset selection against the released functions and derivations of our own: every array of the case."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.maths import submodular
from prunus.maths.last_layer import Gradients
from prunus.rows.cal import cal
from prunus.rows.entropy import entropy
from prunus.rows.least_confidence import least_confidence
from prunus.rows.margin_uncertainty import margin_uncertainty
from prunus.select import craig as craig_module
from prunus.select import grad_match as grad_match_module
from prunus.select import moderate as moderate_module
from prunus.select.craig import craig
from prunus.select.facility_location import facility_location
from prunus.select.grad_match import grad_match
from prunus.select.graph_cut import graph_cut
from prunus.select.herding import herding
from prunus.select.k_center import k_center, radius
from prunus.select.moderate import moderate
from prunus.select.vectors import vectors
from prunus.signals.rowset import Signals

pytestmark = pytest.mark.golden("coreset-baselines--selections")


def scored(case, **signals) -> GroupScore:
    """A score that selectors over vectors only check, with the case's features beside it."""
    n = case["X"].shape[0]
    fields = signals or {"embedding": case["X"], "labels": case["labels"]}
    return GroupScore(np.zeros(n), np.arange(n), "keep", Signals(np.arange(n), **fields))


def budget(case) -> int:
    return int(case.value("budget"))


def same_up_to_ties(ours, expected, similarity):
    """The same picks; where they part, the two gains are equal up to rounding, and the values reached too.

    Two units that only help each other and themselves gain exactly the same: rounding decides in the case, the id here.
    """
    apart = np.flatnonzero(ours != expected)
    if not apart.size:
        return
    s = similarity.astype(np.float64)
    before = s[:, ours[: apart[0]]].max(1, initial=0.0)
    gains = [np.maximum(s[:, order[apart[0]]] - before, 0).sum() for order in (ours, expected)]
    assert gains[0] == pytest.approx(gains[1], abs=1e-6)
    assert s[:, ours].max(1).sum() == pytest.approx(s[:, expected].max(1).sum(), rel=1e-6)


@pytest.mark.parametrize("criterion", [least_confidence, margin_uncertainty, entropy])
def test_uncertainty(case, criterion):
    s = SimpleNamespace(probs=torch.from_numpy(case["logits"]).softmax(-1))
    # The case holds differences of float32 probabilities: near certainty their last bit is more than 1e-6 of the score.
    np.testing.assert_allclose(criterion(s), case[criterion.__name__], rtol=1e-6, atol=2e-7)


def test_cal(case):
    s = Signals(embedding=case["X"], probs=torch.from_numpy(case["logits"]).double().softmax(-1))
    np.testing.assert_allclose(cal(s, neighbours=int(case.value("cal_neighbors"))), case["cal_score"], rtol=1e-6)


def test_k_center(case):
    score, first = scored(case), int(case.value("kcenter_first"))
    chosen = k_center(score, budget(case), start=(first,), rng=Rng(0, "not used"))
    np.testing.assert_array_equal(chosen, case["kcenter_order_own"])
    np.testing.assert_array_equal(np.sort(chosen), case["kcenter_selected_sorted"])
    assert radius(score, chosen) == pytest.approx(case.value("kcenter_radius_own"), rel=1e-6)


def test_facility_location(case):
    chosen, order = facility_location(scored(case), budget(case)), case["facility_location_order_own"]
    same_up_to_ties(chosen, order, case["cos_similarity"])
    for greedy in ("NaiveGreedy", "LazyGreedy"):
        released = case[f"facility_location_{greedy}_sorted"]
        if np.array_equal(chosen, order):
            np.testing.assert_array_equal(np.sort(chosen), released)
        value = case["cos_similarity"][:, released].max(1).sum(dtype=np.float64)
        assert value == pytest.approx(case.value("facility_location_value"), rel=1e-6)


def test_facility_location_of_the_similarity_itself(case):
    ours = submodular.Cosine(vectors(scored(case)).directions("the test"))
    every = np.arange(ours.size)
    np.testing.assert_allclose(ours.rows(every), case["cos_similarity"], rtol=1e-6, atol=1e-7)
    state = submodular.facility_location(submodular.Matrix(case["cos_similarity"]), budget(case))
    same_up_to_ties(np.array(state.order), case["facility_location_order_own"], case["cos_similarity"])
    np.testing.assert_allclose(state.gains, case["facility_location_gains_own"], rtol=1e-6)
    assert sum(state.gains) == pytest.approx(case.value("facility_location_value"), rel=1e-6)


@pytest.mark.parametrize("greedy", ["NaiveGreedy", "LazyGreedy"])
def test_graph_cut(case, greedy):
    names = [name for name in case if name.startswith("graph_cut_lam") and name.endswith(f"_{greedy}_sorted")]
    assert names
    for name in names:
        lam = float(name.removeprefix("graph_cut_lam").split("_")[0])
        np.testing.assert_array_equal(np.sort(graph_cut(scored(case), budget(case), lam=lam)), case[name])


def test_herding(case):
    score, count = scored(case), budget(case)
    np.testing.assert_array_equal(herding(score, count), case["herding_argmin_order_own"])
    official = herding(score, count, parity="official")
    np.testing.assert_array_equal(np.sort(official), case["herding_official_argmax_sorted"])


def test_craig(case):
    """The case weighs the sorted facility location set by the cosine of X."""
    score = scored(case, gradient=case["X"])
    options = {"similarity": "cosine", "within": "all"}
    same_up_to_ties(craig(score, budget(case), **options), case["facility_location_order_own"], case["cos_similarity"])
    chosen = case["facility_location_LazyGreedy_sorted"]
    np.testing.assert_array_equal(craig_module.weights(score, chosen, **options), case["craig_weights_counts_own"])
    official = craig_module.weights(score, chosen, parity="official", **options)
    np.testing.assert_array_equal(official, case["craig_weights_official_plus_one"])


def test_grad_match(case):
    score, gradients = scored(case, gradient=case["omp_gradients"]), case["omp_gradients"]
    np.testing.assert_allclose(Gradients(gradients).mean()[:, 0], case["omp_target"], rtol=1e-6, atol=1e-9)
    options = {"lam": float(case.value("omp_lambda")), "within": "all"}
    chosen = grad_match(score, budget(case), **options)
    found = np.zeros(gradients.shape[0])
    found[chosen] = grad_match_module.weights(score, chosen, parity="official", **options)
    np.testing.assert_allclose(found, case["omp_weights"], atol=1e-6)


def test_moderate(case):
    score, kept = scored(case), case["moderate_kept_sorted"]
    np.testing.assert_allclose(moderate_module.distances(score), case["moderate_distance"], rtol=1e-6)
    n, share = case["X"].shape[0], float(case.value("moderate_rate"))
    assert kept.size == round(n * (0.5 + share / 2)) - round(n * (0.5 - share / 2))
    chosen = moderate(score, kept.size)
    np.testing.assert_array_equal(np.sort(chosen), kept)
    np.testing.assert_array_equal(np.setdiff1d(np.arange(n), chosen), case["moderate_removed_sorted"])
