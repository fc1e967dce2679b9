"""The perceptron theory: its limits, its central prediction, and one simulated student."""

from __future__ import annotations

import math

import numpy as np
import pytest

from prunus.core.errors import BadInput
from prunus.maths.perceptron_theory import (
    FEWEST,
    MOST,
    better_end,
    examples_per_parameter,
    expected_errors,
    learned,
    simulate,
)


def test_error_falls_with_data_and_keeping_all_is_random():
    curve = [learned(alpha).error for alpha in (0.5, 1.0, 2.0, 4.0)]
    assert sorted(curve, reverse=True) == curve
    for end in ("hard", "easy"):
        assert learned(2.0, 1.0, end) == learned(2.0, 1.0, "random")
    found = learned(3.0, 0.6, "hard")
    assert 0 < found.overlap < 1 and found.error == pytest.approx(math.acos(found.overlap) / math.pi)


def test_keep_easy_while_data_are_scarce_and_hard_once_they_abound():
    assert better_end(2.0, 0.5) == "easy"
    assert better_end(16.0, 0.5) == "hard"
    assert learned(8.0, 0.5, "hard").error < learned(8.0).error
    assert (np.diff(expected_errors(8.0, (0.5, 0.75, 1.0), "hard")) < 0).all()


@pytest.mark.parametrize(
    ("keep", "kept"), [("random", 1.0), ("hard", 0.05), ("hard", 0.5), ("easy", 0.05), ("easy", 0.5)]
)
def test_every_amount_of_data_has_its_error_and_more_data_less_error(keep, kept):
    """Also where the margin is near the least one kept, and where a student that learned nothing solves the equations too."""
    curve = [learned(alpha, kept, keep).error for alpha in (0.02, 0.15, 1.0, 4.0, 12.0, 60.0, 200.0)]
    assert sorted(curve, reverse=True) == curve and curve[0] < 0.5 and curve[-1] < 0.02


def test_with_much_data_the_error_falls_as_one_over_it():
    assert learned(200.0).error / learned(100.0).error == pytest.approx(0.5, rel=0.01)
    assert learned(100.0).error == pytest.approx(0.5 / 100, rel=0.01)  # max-margin students: 0.50 / alpha


def test_examples_per_parameter_are_read_off_a_curve_of_random_rows():
    shares = (0.1, 0.3, 0.5)
    for total in (2.0, 20.0):
        assert examples_per_parameter(shares, expected_errors(total, shares).tolist()) == pytest.approx(total, rel=1e-3)
    assert examples_per_parameter(shares, (0.3, 0.3, 0.3)) == FEWEST
    assert examples_per_parameter(shares, (0.6, 0.2, 0.1)) == MOST  # steeper than 1 / data
    with pytest.raises(BadInput, match="above 0"):
        examples_per_parameter(shares, (0.1, 0.0, 0.0))


def simulated(angle, seeds=6):
    settings = {"dimensions": 60, "angle": angle}
    return [simulate(2.0, 0.5, "hard", rng=np.random.default_rng(seed), **settings).error for seed in range(seeds)]


def test_a_simulated_student_agrees_and_a_bad_probe_costs():
    runs = simulated(0.0)
    spread = np.std(runs, ddof=1) / math.sqrt(len(runs))
    assert abs(np.mean(runs) - learned(2.0, 0.5, "hard").error) < 4 * spread + 0.01
    assert np.mean(simulated(math.pi / 2)) > np.mean(runs) + 2 * spread


@pytest.mark.parametrize("case", [(0, 0.5, "hard"), (2, 0, "hard"), (2, 1.2, "easy"), (2, 0.5, "none")])
def test_refusals(case):
    with pytest.raises(BadInput):
        learned(*case)
