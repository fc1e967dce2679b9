"""Text and Markdown say the same as the page, in words and numbers that are checked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prunus.core.arms import arms, count, label, mean_interval, notes, show
from prunus.core.results import Results, Row
from prunus.core.table import results_table
from prunus.report import build, markdown, text, view
from prunus.report.cost import break_even, cost_rows
from prunus.report.data import MASKED, ReportData
from report.reports import data_report, data_results, model_report, rows_plan


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [
        ("accuracy", 0.9134, "91.3 %"),
        ("macs", 40.8e6, "40.8 M"),
        ("params", 272_474, "272 k"),
        ("rows", 9850, "9 850"),
        ("latency_ms", 2.4, "2.40 ms"),
        ("perplexity", 23.298, "23.3"),
        ("training_seconds", 0.0, "0 s"),
        ("accuracy", float("nan"), "nan"),
    ],
)
def test_numbers_read_as_people_write_them(metric, value, shown):
    assert show(metric, value) == shown


def test_labels_and_counts():
    assert [label(name) for name in ("macs", "latency_ms", "top1", "ms")] == ["MACs", "latency", "top1", "ms"]
    assert [count(value) for value in (999, 9_999, 10_000, 1.5e9, 2.5)] == ["999", "9 999", "10 k", "1.5 G", "2.5"]


def test_interval_over_seeds_is_the_t_interval():
    low, high = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (low, high) == pytest.approx((3 - 2.776445 * 0.5**0.5, 3 + 2.776445 * 0.5**0.5), rel=1e-6)


def test_arms_put_dense_first_and_controls_last():
    rows = [
        Row("random", "rows/random", "30% rows", 0, "accuracy", 0.8, None, True),
        Row("el2n", "rows/el2n", "30% rows", 0, "accuracy", 0.9),
    ]
    rows += [Row("dense", "", "", seed, "accuracy", 0.9 + 0.01 * seed) for seed in (0, 1)]
    found = arms(Results(tuple(rows)))
    assert [arm.role for arm in found] == ["dense", "pruned", "control"]
    assert found[0].numbers["accuracy"].seeds == 2
    assert found[0].numbers["accuracy"].value == pytest.approx(0.905)


def test_notes_are_said_once_and_numbers_that_vary_as_a_range():
    said = [
        "role=test; rows=444; test_passes=10",
        "role=test; rows=444; test_passes=24; read twice",
        "rows=444; test_passes=11",
    ]
    found = arms(Results(tuple(Row(f"a{i}", "", "", None, "accuracy", 0.5, note=note) for i, note in enumerate(said))))
    assert notes(found) == ("read twice", "role=test; rows=444; test_passes=10 to 24")


def test_counts_that_no_seed_changes_have_no_interval():
    rows = tuple(Row("cut", "channels/l1", "50% macs", seed, "params", 2475) for seed in range(3))
    (arm,) = arms(Results(rows))
    assert (arm.numbers["params"].interval, arm.numbers["params"].seeds) == (None, 3)


def test_table_says_when_no_control_was_run():
    results = data_results()
    bare = Results(tuple(row for row in results if not row.control))
    assert "no control was run" not in results_table(results)
    assert results_table(bare).endswith("no control was run")
    assert str(bare) == results_table(bare)


def test_break_even_counts_trainings():
    found = {(row.what, row.budget): row for row in cost_rows(arms(data_results()))}
    assert found["el2n + ccs", "30% rows"].break_even == pytest.approx(95.4 / (640 - 192))
    assert found["el2n + ccs", "30% rows"].words == "in the first training"
    arm = next(arm for arm in arms(data_results()) if arm.what == "forgetting")
    assert break_even(arm, full=330) == (pytest.approx(95.4 / 10), "after 9.5 trainings")
    assert break_even(arm, full=320) == (None, "never: training is not shorter")
    assert break_even(arm, full=None) == (None, "")
    taught = replace(arm, cost={**arm.cost, "teacher_cpu_s": 640})
    assert break_even(taught, full=330)[0] == pytest.approx((95.4 + 640) / 10)


def test_training_for_as_many_steps_is_not_shorter_whatever_the_clock_says():
    def arm(what, samples, seconds, share=10):
        method, budget = ("", "") if what == "dense" else ("rows/x", f"{share}% rows")
        cost = {"samples": samples, "training_cpu_s": seconds, "signals_cpu_s": 10.0, "selection_cpu_s": 0.0}
        return Row(what, method, budget, 0, "accuracy", 0.5, None, False, cost)

    for samples, share, shorter in ((1000, 10, False), (850, 10, False), (100, 10, True), (900, 90, True)):
        found = arms(Results((arm("dense", 1000, 100), arm("x", samples, 90, share))))
        (row,) = [row for row in cost_rows(found) if row.what == "x"]
        assert row.break_even == (1.0 if shorter else None), samples


def test_curves_come_from_budgets_that_are_shares():
    (curve,) = build.curves(data_results())
    assert (curve.metric, curve.quantity) == ("accuracy", "rows")
    assert [line.name for line in curve.series if line.control] == ["random-balanced", "rs2"]
    assert [point.kept for point in curve.series[0].points] == [10, 30, 50]
    assert build.kept_share("5000 rows") is None
    assert build.kept_share("2:4") is None
    assert build.kept_share("sparsity 90%") == pytest.approx(10)


def test_histogram_and_classes_count_every_row_once():
    plan, score, labels = rows_plan()
    drawn = build.histogram(score, plan)
    assert (sum(drawn.kept), sum(drawn.dropped)) == (600, 1400)
    bars = build.kept_by_label(plan.groups["all"].mask().nonzero()[0], labels[plan.keep()], plan)
    assert sum(bars.kept) == sum(bars.sizes) == 600


def test_text_and_markdown_hold_every_section():
    data = data_report()
    for written in (text.render(data), markdown.render(data)):
        for expected in (
            "below random",
            "keeps 30 % of rows, drops 70 %",
            "in the first training",
            data.command,
            "91.4 %",
        ):
            assert expected in written
    assert MASKED in text.render(model_report(masked=True))
    assert MASKED in markdown.render(model_report(masked=True))


def test_markdown_cells_cannot_break_the_table():
    assert markdown.table(["a"], [["x | y\nz"]]).splitlines()[2] == "| x \\| y z |"


def test_summary_fits_a_terminal():
    shown = text.summary(data_report()).splitlines()
    assert sum(line.startswith(("dense", "el2n", "forgetting", "random", "rs2")) for line in shown) <= text.MOST_LINES
    assert any("more arms in the report" in line for line in shown)


def test_headline_is_the_arm_of_the_first_verdict_or_the_last_pruned_one():
    assert view.headline(data_report()).budget == "30% rows"
    assert view.headline(model_report()).what == "taylor + joint_ls, recovered"
    assert view.headline(ReportData(title="x")) is None
