"""What the perceptron theory expects beside what was measured: over random rows, for both ends, from the curve of random rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prunus.core.results import Results
from prunus.maths.perceptron_theory import examples_per_parameter, expected_errors
from prunus.report import theory
from report.reports import panels, picture_results


@pytest.mark.parametrize(
    ("name", "end"),
    [("el2n + top(keep=hardest)", "hard"), ("prototypes + balanced(balance=0.2, keep=easiest)", "easy"), ("semdedup(keep=easy)", "easy"),
     ("ssp hard", "hard"), ("aum + top", "hard"), ("aum + top(offset=3)", ""), ("keepers", ""), ("hard_cut", ""),
     ("aum + ccs", ""), ("dbp(keep=random)", "")],
)  # fmt: skip
def test_the_end_that_is_kept_stands_in_the_name(name, end):
    assert theory.kept_end(name) == end


def test_a_chart_for_each_setting_with_measured_and_expected_lines():
    found = theory.theory_curves(panels(picture_results()))
    assert len(found) == 4
    for curve in found:
        assert [line.name for line in curve.series if not line.expected] == [
            "prototypes + balanced(keep=easiest)", "el2n_sum + top(keep=hardest)",
        ]  # fmt: skip
        assert [line.name for line in curve.series if line.expected] == [
            "theory, hard end kept",
            "theory, easy end kept",
        ]


def test_ratios_are_errors_over_those_of_random_rows():
    curve = theory.theory_curves(panels(picture_results()))[0]
    hard = next(line for line in curve.series if line.name.startswith("el2n"))
    assert [point.kept for point in hard.points] == [10, 30, 50]
    assert hard.points[0].value == pytest.approx((1 - 0.52 + 0.21) / (1 - 0.52), rel=0.02)
    expected = next(line for line in curve.series if line.name == "theory, easy end kept")
    total = examples_per_parameter([0.1, 0.3, 0.5], [0.48, 0.37, 0.32])
    by_hand = expected_errors(total, [0.1], "easy") / expected_errors(total, [0.1])
    assert expected.points[0].value == pytest.approx(float(by_hand[0]), rel=0.05)


def test_no_chart_where_no_arm_keeps_an_end():
    rows = tuple(row for row in picture_results() if "keep=" not in row.what)
    assert not theory.theory_curves(panels(Results(rows)))


def test_no_chart_where_random_rows_fall_as_no_curve_of_the_theory_does():
    """Ten times the error at a tenth of the rows is the steepest the theory knows."""
    levels = {"10% rows": 0.03, "30% rows": 0.9, "50% rows": 0.97}
    steep = [replace(row, value=levels[row.budget]) if row.budget in levels else row for row in picture_results()]
    assert not theory.theory_curves(panels(Results(tuple(steep))))
