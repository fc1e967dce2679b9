"""Coverage-centric selection against the released functions: scores from a log, strata, budgets, ids, allocation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prunus.allocate.request import Request
from prunus.allocate.strata import strata
from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.rows.aum import aum
from prunus.rows.correctness import correctness
from prunus.rows.el2n import el2n
from prunus.rows.el2n_sum import el2n_sum
from prunus.rows.forgetting import forgetting
from prunus.rows.margin import margin
from prunus.select.ccs import ccs, counts_official, cut_count, stratify, stratify_official
from prunus.select.top import top
from prunus.signals.dynamics import Dynamics, EpochRows
from prunus.signals.rowset import Signals

pytestmark = [pytest.mark.golden("ccs--stratified"), pytest.mark.filterwarnings("ignore:below about 30")]
FIELDS = ("aum", "el2n_sum", "forgetting", "correctness", "never_learned", "seen")
SCORES = {"aum": ("aum_accumulated_margin", "easy"), "el2n": ("el2n_sum_first_epochs", "hard")}


def recorded(case):
    """What a recorder keeps of the log, epoch by epoch."""
    probs = torch.from_numpy(case["log_probs_f16"]).float().exp()
    labels = torch.from_numpy(case["labels"])
    dynamics = Dynamics(len(labels), FIELDS, el2n_epochs=int(case.value("el2n_epochs")))
    for p in probs:
        epoch = SimpleNamespace(probs=p, labels=labels)
        values = {"margin": -margin(epoch), "el2n": el2n(epoch), "correct": p.argmax(-1) == labels}
        rows = np.arange(len(labels))
        dynamics.update(EpochRows(rows, {name: value.numpy() for name, value in values.items()}))
    return Signals(**dynamics.fields())


def grouped(case, name):
    array, sense = SCORES[name]
    return GroupScore(case[array], np.arange(case[array].size), sense)


def budget(case):
    n = case["labels"].size
    return int(case.value("coreset_ratio") * n), float(case.value("prune_hard_ratio_beta")), int(case.value("n_strata"))


def same_up_to_ties(ours, released, values):
    """The same order of values, and the same ids where no two values are equal (the released sorts are not stable)."""
    np.testing.assert_array_equal(values[ours], values[released])
    if np.unique(values).size == values.size:
        np.testing.assert_array_equal(ours, released)


def same_counts_up_to_ties(ours, released, sizes):
    """The same counts, whichever of several strata of equal size takes the odd unit."""
    np.testing.assert_array_equal(ours[np.lexsort((ours, sizes))], released[np.lexsort((released, sizes))])


def test_scores_from_the_log(case):
    s = recorded(case)
    np.testing.assert_allclose(aum(s), case["aum_accumulated_margin"], atol=2e-3)
    np.testing.assert_allclose(el2n_sum(s), case["el2n_sum_first_epochs"], atol=2e-3)
    np.testing.assert_array_equal(forgetting(s, never_learned="zero"), case["forgetting"])
    np.testing.assert_array_equal(correctness(s), case["correctness"])


@pytest.mark.parametrize("name", SCORES)
def test_rows_left_by_the_hard_cut(case, name):
    _, beta, _ = budget(case)
    easy = case[f"{name}_easy_idx_in_order"]
    cut = grouped(case, "aum")
    dropped = cut_count(cut.values.size, 0, beta)
    assert dropped == cut.values.size - easy.size
    same_up_to_ties(cut.keep_order("hard")[dropped:], easy, cut.values)


@pytest.mark.parametrize("name", SCORES)
def test_strata_and_budgets(case, name):
    count, _, number = budget(case)
    left = case[f"{name}_easy_idx_in_order"]
    sizes = np.bincount(stratify_official(grouped(case, name).values[left], number), minlength=number)
    np.testing.assert_array_equal(sizes, case[f"{name}_stratum_count"])
    for counts in (strata(Request.of(sizes, count)), counts_official(sizes, count)):
        same_counts_up_to_ties(counts, case[f"{name}_stratum_budget"], sizes)


@pytest.mark.parametrize("name", SCORES)
def test_ids_selected_under_the_torch_seed(case, name):
    count, beta, number = budget(case)
    rng = Rng(int(case.value("torch_seed")), "anything")
    options = {"cut_score": grouped(case, "aum"), "hard_cut": beta, "strata": number}
    chosen = ccs(grouped(case, name), count, parity="official", rng=rng, **options)
    ours = counts_official(case[f"{name}_stratum_count"], count)
    released = case[f"{name}_stratum_budget"]
    if np.array_equal(ours, released):
        np.testing.assert_array_equal(chosen, case[f"{name}_selected_torch_seed"])
    # Where the sort decided otherwise between strata of equal size, the draws must still begin alike.
    drawn = (
        np.split(chosen, np.cumsum(ours)[:-1]),
        np.split(case[f"{name}_selected_torch_seed"], np.cumsum(released)[:-1]),
    )
    for one, other in zip(*drawn):
        few = min(one.size, other.size)
        np.testing.assert_array_equal(one[:few], other[:few])


@pytest.mark.parametrize("name", SCORES)
def test_our_own_draw_meets_the_budgets_of_every_stratum(case, name):
    count, beta, number = budget(case)
    score, left = grouped(case, name), case[f"{name}_easy_idx_in_order"]
    chosen = ccs(score, count, cut_score=grouped(case, "aum"), hard_cut=beta, strata=number, rng=Rng(0, "ours"))
    assert len(set(chosen.tolist())) == count
    assert set(chosen) <= set(left)
    ours = stratify(score.values[left], number)
    expected = strata(Request.of(np.bincount(ours, minlength=number), count))
    np.testing.assert_array_equal(np.bincount(ours[np.isin(left, chosen)], minlength=number), expected)
    # The edges differ by 1e-4 of the maximum, so a few rows next to an edge may be in the neighbouring stratum.
    assert np.abs(np.bincount(ours, minlength=number) - case[f"{name}_stratum_count"]).sum() <= 0.1 * left.size


def test_top_order(case):
    order, score = case["top_el2n_idx_in_order"], grouped(case, "el2n")
    same_up_to_ties(top(score, order.size), order, score.values)


def test_allocation_alone(case):
    counts = strata(Request.of(case["alloc_bins"], int(case.value("alloc_total"))))
    same_counts_up_to_ties(counts, case["alloc_budget"], case["alloc_bins"])
