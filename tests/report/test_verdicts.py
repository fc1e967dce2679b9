"""Comparisons are paired by seed, corrected over the table, and never made across recoveries, budgets or sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prunus.core.results import Results, Row
from prunus.report import view
from prunus.report.verdicts import over_arms


def rows(
    what: str, values: list[float], *, control: bool = False, metric: str = "accuracy", budget: str = "30% rows"
) -> list[Row]:
    method = f"rows/{what.partition(',')[0]}"
    return [Row(what, method, budget, seed, metric, value, None, control) for seed, value in enumerate(values)]


BASE = [0.80, 0.81, 0.79, 0.80, 0.82]


def above(by: float) -> list[float]:
    return [value + by + 0.001 * (i % 2) for i, value in enumerate(BASE)]


def test_a_clear_loss_to_random_is_called_below_random():
    (line,) = over_arms(Results(tuple(rows("el2n", above(-0.1)) + rows("random", BASE, control=True))))
    assert (line.word, line.pairs) == ("below random", 5)
    assert line.difference == pytest.approx(-0.1, abs=1e-3)


def test_lower_is_better_for_perplexity():
    found = rows("wanda", [20.0, 21, 20, 21], metric="perplexity") + rows(
        "random", [30.0, 31.5, 30, 31], metric="perplexity", control=True
    )
    (line,) = over_arms(Results(tuple(found)))
    assert line.word == "better"


def test_one_seed_has_no_interval_and_is_a_tie():
    (line,) = over_arms(Results(tuple(rows("el2n", [0.9]) + rows("random", [0.1], control=True))))
    assert (line.word, line.interval) == ("tie", None)
    assert view.verdict_line(line)["interval"] == "one pair: no interval"


def test_only_like_is_compared_with_like():
    found = rows("a", BASE) + rows("a, not recovered", above(-0.3)) + rows("random", above(-0.1), control=True)
    found += rows("random, not recovered", above(-0.4), control=True) + rows(
        "random", BASE, control=True, budget="10% rows"
    )
    found += rows("a", [5.0] * 5, metric="macs") + rows("random", [6.0] * 5, metric="macs", control=True)
    pairs = {(line.what, line.against, line.budget, line.metric) for line in over_arms(Results(tuple(found)))}
    assert pairs == {
        ("a", "random", "30% rows", "accuracy"),
        ("a, not recovered", "random, not recovered", "30% rows", "accuracy"),
    }


def test_the_correction_runs_over_the_whole_table():
    gain = [0.02, 0.001, 0.02, 0.004, 0.012]  # alone its interval excludes 0; among twenty comparisons it is a tie
    arm = rows("a", [b + g for b, g in zip(BASE, gain)])
    control = rows("random", BASE, control=True)
    (alone,) = over_arms(Results(tuple(arm + control)))
    noise = [r for i in range(19) for r in rows(f"n{i}", [b + (-1) ** (i + j) * 0.01 for j, b in enumerate(BASE)])]
    many = over_arms(Results(tuple(arm + control + noise)))
    assert alone.word == "better"
    assert next(line.word for line in many if line.what == "a") == "tie"


def test_a_control_that_copies_one_arm_is_for_that_arm_only():
    """Random channels with the joint update say nothing about an arm without it."""
    mine = [replace(row, like="taylor") for row in rows("random (as taylor)", above(-0.1), control=True)]
    theirs = [replace(row, like="taylor + joint_ls") for row in rows("random + joint_ls", above(0.1), control=True)]
    found = over_arms(Results(tuple(rows("taylor", BASE) + mine + theirs)))
    assert [(line.against, line.word) for line in found] == [("random (as taylor)", "better")]


def test_other_models_at_the_same_budget_are_not_compared():
    here = [replace(row, dense="dense (a)") for row in rows("l1", BASE)]
    there = [replace(row, dense="dense (b)") for row in rows("random", above(-0.1), control=True)]
    assert not over_arms(Results(tuple(here + there)))


def test_taught_arms_are_compared_with_taught_controls_and_with_themselves_untaught():
    untaught = [replace(row, like="a, taught by t") for row in rows("a, taught by t (not taught)", BASE, control=True)]
    found = rows("a", BASE) + rows("a, taught by t", BASE) + untaught
    found += rows("random", BASE, control=True) + rows("random, taught by t", BASE, control=True)
    pairs = {(line.what, line.against) for line in over_arms(Results(tuple(found)))}
    assert pairs == {
        ("a", "random"),
        ("a, taught by t", "random, taught by t"),
        ("a, taught by t", "a, taught by t (not taught)"),
    }
