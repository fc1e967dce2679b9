"""Advice: from which measurements, in which order, with which warnings."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from advise.tables import CLEAN, NOISY, TABLES, arm, cells, situation
from prunus.advise import text
from prunus.advise.advice import advise
from prunus.advise.asked import Asked
from prunus.advise.lookup import distance, nearest
from prunus.core.errors import BadInput, UnknownName


def test_the_nearest_column_of_every_recipe_is_taken_where_it_is_not_far_behind():
    near = situation(10_000, 1000, 0.1)  # between the two
    found = nearest(TABLES, near, "epochs")
    assert [(column.table.run, column.table.budgets[column.place]) for column in found] == [
        ("clean", 0.1),
        ("noisy", 0.1),
    ]
    assert [column.distance for column in found] == [pytest.approx(2**0.5)] * 2
    (alone,) = nearest(TABLES, situation(), "epochs")
    assert (alone.table.run, alone.distance) == ("noisy", pytest.approx(0.0))
    (many,) = nearest(TABLES, situation(100_000, 50_000, 0.0), "epochs")
    assert (many.table.run, many.table.budgets[many.place]) == ("clean", 0.5)


@pytest.mark.parametrize(
    ("changed", "steps"),
    [({"rows": 10_000, "kept": 1000}, 1.0), ({"rows": 500}, math.hypot(0.0, 1.0)), ({"noise": 0.1}, 1.0)],
)
def test_what_counts_as_one_step(changed, steps):
    assert distance(NOISY, 1, situation(**changed)) == pytest.approx(steps)


def test_methods_that_lost_come_last_and_the_others_by_what_to_expect():
    advice = advise(situation(), tables=TABLES)
    assert [one.arm.name for one in advice.ranked] == [
        "aum + ccs(hard_cut=0.3)",
        "k_center",
        "random",
        "el2n_sum + top(keep=hardest)",
    ]
    assert [one.arm.name for one in advice.shortlist] == ["aum + ccs(hard_cut=0.3)", "k_center"]
    assert advice.lead.startswith(
        "aum + ccs(hard_cut=0.3) beat random_balanced by 15.0 points there; 2 % of the labels it kept"
    )


def test_near_measurements_weigh_more():
    near = situation(10**4, 900, 0.1)
    first, second = nearest(TABLES, near, "epochs")
    (found,) = [one for one in advise(near, tables=TABLES).ranked if one.arm.name == "k_center"]
    assert first.distance < second.distance < first.distance + 1 and found.nearest.difference == 0.1
    low, high = 0.5**second.distance, 0.5**first.distance
    assert found.difference == pytest.approx((0.10 * high - 0.005 * low) / (low + high))


def test_a_win_in_a_farther_measurement_says_where():
    tied = replace(CLEAN, arms=(arm("aum", "ccs", cells(None, ("tie", 2.0)), hard_cut=0.3),))
    advice = advise(situation(10_000, 1000, 0.06), tables=[NOISY, tied], trainings=9)
    assert advice.columns[0].table is tied and advice.shortlist[0].wins
    assert advice.lead.startswith(
        "aum + ccs(hard_cut=0.3) beat random_balanced by 15.0 points on noisy.parquet, 10 % kept; 2 %"
    )


def test_a_method_that_needs_labels_is_none_for_rows_without():
    told = advise(situation(classes=0, imbalance=None, noise=None), asked=Asked("el2n", "top"), tables=TABLES)
    assert told.answer.startswith("rows/el2n needs labels, and these rows have none; without them: ")


def test_where_nothing_won_the_control_is_the_advice():
    advice = advise(situation(kept=500), tables=[NOISY])
    assert advice.lead.startswith("keep random_balanced rows: nothing beat random_balanced")
    assert "k_center" in advice.lead


def test_the_direction_turns_round_with_the_budget_and_the_noise():
    few = advise(situation(100_000, 10_000, 0.0), tables=[CLEAN])
    many = advise(situation(100_000, 50_000, 0.0), tables=[CLEAN])
    assert next(one.arm.name for one in many.shortlist) == "el2n_sum + top(keep=hardest)" and many.ranked[0].wins
    assert few.ranked[-1].arm.name == "el2n_sum + top(keep=hardest)" and few.ranked[-1].loses


def test_a_method_that_lost_is_warned_of_with_the_reason_measured():
    advice = advise(situation(), asked=Asked("el2n_sum", "top"), tables=TABLES)
    assert advice.answer == "el2n_sum + top(keep=hardest) −66.0 points (−67.0 to −65.0), a loss"
    (told,) = [line for line in advice.warnings if "lost" in line]
    assert told.startswith("el2n_sum + top(keep=hardest) lost 66.0 points to random_balanced there")
    assert "70 % of the labels it kept are wrong, of all rows 20 %" in told
    assert "its smallest class has 40 % of an equal part" in told


def test_a_method_that_fell_behind_is_warned_of_though_the_correction_leaves_it_a_tie():
    near = replace(NOISY, arms=(arm("aum", "top", cells(("tie", 0.5), ("tie", -26.0)), keep="hardest"), *NOISY.arms))
    told = advise(situation(), asked=Asked("aum", "top"), tables=[near])
    assert told.answer.startswith("aum + top(keep=hardest) −26.0 points (−27.0 to −25.0), a tie")
    assert "better with the same scores: aum + ccs(hard_cut=0.3) +15.0 points" in told.answer
    assert told.warnings[0].startswith("aum + top(keep=hardest) fell 26.0 points behind random_balanced there, which")
    half = advise(situation(kept=500), asked=Asked("aum", "top"), tables=[near], trainings=9)
    assert not [line for line in half.warnings if "behind" in line]


def test_a_loss_in_the_farther_measurement_says_where():
    told = advise(situation(10_000, 1100, 0.1), asked=Asked("el2n_sum", "top"), tables=TABLES).warnings
    assert "el2n_sum + top(keep=hardest) lost 3.0 points" in told[0] or "on clean.parquet, 10 % kept" in told[0]


def test_a_method_that_was_not_measured_is_judged_by_those_that_select_alike():
    advice = advise(situation(), asked=Asked("el2n", "top"), tables=TABLES)
    assert advice.answer == "el2n + top was not measured: --verify tries it"
    assert advice.warnings[0].startswith(
        "others that select as el2n + top does were worse than random_balanced: el2n_sum + top(keep=hardest) lost 66.0"
    )
    easy = advise(situation(), asked=Asked("el2n", "top", (("keep", "easiest"),)), tables=TABLES, trainings=9)
    assert easy.answer == "el2n + top was not measured: --verify tries it" and not easy.warnings
    ccs = advise(situation(), asked=Asked("el2n"), tables=TABLES, trainings=9)  # its default selector
    assert ccs.answer.endswith("others that select alike: aum + ccs(hard_cut=0.3) +15.0 points (+14.0 to +16.0), a win")
    assert not ccs.warnings
    assert advise(situation(), asked=Asked("herding"), tables=TABLES).answer.startswith("herding was not measured")


def test_a_method_that_did_not_lose_is_told_and_not_warned_of():
    for asked in (Asked("aum"), Asked("aum", "ccs"), Asked("k_center")):
        advice = advise(situation(), asked=asked, tables=TABLES, trainings=9)
        assert advice.answer.endswith(("a win", "a tie")) and not advice.warnings


def test_settings_left_at_their_defaults_are_those_written_out():
    plain = replace(CLEAN.arms[0], name="el2n_sum + top", select_options={})
    other = replace(CLEAN, run="other", arms=(plain,))
    (found,) = [
        one for one in advise(situation(100_000, 50_000, 0.0), tables=[CLEAN, other]).ranked if one.arm.select == "top"
    ]
    assert len(found.seen) == 2
    assert advise(
        situation(kept=500), asked=Asked("el2n_sum", "top", (("keep", "easiest"),)), tables=[other]
    ).answer.startswith("el2n_sum + top was not measured")


def test_names_that_do_not_exist_are_refused():
    with pytest.raises(UnknownName, match="el2n_sum"):
        advise(situation(), asked=Asked("el2n_som"), tables=TABLES)
    with pytest.raises(UnknownName, match="hard_cut"):
        advise(situation(), asked=Asked("aum", "ccs", (("hard_cuts", 0.1),)), tables=TABLES)
    with pytest.raises(UnknownName, match="ccs"):
        advise(situation(), asked=Asked("aum", "css"), tables=TABLES)


def test_signals_that_cost_more_than_they_save():
    once = advise(situation(), tables=TABLES)
    assert "paid back after 1.2 trainings on what is kept, and 1 training is planned" in once.warnings[0]
    assert "aum + ccs(hard_cut=0.3), k_center" in once.warnings[0] and "el2n_sum" not in once.warnings[0]
    assert once.lead.endswith("but see what its signals cost")
    often = advise(situation(), tables=TABLES, trainings=5)
    assert not [line for line in often.warnings if "signals cost" in line]
    held = advise(situation(have=frozenset({"aum", "embedding"})), tables=TABLES)
    assert not [line for line in held.warnings if "signals cost" in line]
    assert {one.upfront for one in held.shortlist} == {0.0}
    (control,) = [
        one for one in held.ranked if one.arm.name == "random"
    ]  # drawing costs something, whatever is at hand
    assert control.upfront == 0.01 and control.break_even == pytest.approx(0.01 / 0.9)


def test_at_equal_steps_signals_are_never_paid_back():
    steps = [replace(table, equal="steps") for table in TABLES]
    advice = advise(situation(), equal="steps", tables=steps, trainings=100)
    assert any("never paid back" in line for line in advice.warnings)
    assert all(math.isinf(one.break_even) for one in advice.shortlist)
    with pytest.raises(BadInput, match="equal steps"):
        advise(situation(), equal="steps", tables=TABLES)


def test_what_makes_the_measurements_say_little():
    far = advise(situation(10_000_000, 5_000_000, None, noise_at_most=0.4, imbalance=40.0, copies=0.2), tables=[CLEAN])
    said = "\n".join(far.warnings)
    for part in ("hint", "not known (at most 40 %)", "40.0 times", "20.0 % of the rows are copies"):
        assert part in said
    (columns,) = advise(situation(inputs=(30,)), tables=TABLES, trainings=9).warnings
    assert columns.startswith("measured on images, and these rows are columns")
    assert not advise(situation(), tables=TABLES, trainings=9).warnings


def test_rows_without_labels_get_methods_that_need_none():
    by_class = arm("random", "moderate", cells(("tie", 0.0), ("better", 9.0)), ("embedding",))  # centres of classes
    table = replace(NOISY, arms=(by_class, *NOISY.arms))
    advice = advise(situation(classes=0, imbalance=None, noise=None), tables=[table])
    assert {one.arm.name for one in advice.ranked} == {"k_center", "random"}
    assert (
        advice.lead.startswith("keep random rows: nothing beat random_balanced")
        and "without labels" in advice.warnings[-1]
    )
    assert advice.columns[0].distance == pytest.approx(math.hypot(0.0, 2.0))


def test_the_text_tells_figures_source_and_reason():
    shown = text.render(advise(situation(), asked=Asked("el2n_sum", "top"), tables=TABLES))
    for part in (
        "mine: 1,000 rows, 10 classes", "20 % wrong labels (estimated)", "keeps 10 %, 100 rows, 10 of a class; drops 90 %",
        "noisy.parquet with prunus:tinycnn: 1,000 rows", "97.0 % on all rows, 80.0 % on random_balanced",
        "+15.0 points", "▲ wins", "▼ loses", "advice: aum + ccs", "warning: ", "asked: el2n_sum + top",
        'prune = { method = "aum", budget = "10% rows", select = { name = "ccs", hard_cut = 0.3 } }  # records aum\n',
        'prune = { method = "random", budget = "10% rows", select = "k_center" }                     # records embedding\n',
    ):  # fmt: skip
        assert part in shown


def test_json_holds_every_method_and_no_infinity():
    import json

    steps = [replace(table, equal="steps") for table in TABLES]
    found = advise(situation(), equal="steps", tables=steps).to_json()
    again = json.loads(json.dumps(found, allow_nan=False))
    assert {method["name"] for method in again["methods"]} >= {"k_center", "el2n_sum + top(keep=hardest)"}
    assert again["control"] == "random_balanced" and again["methods"][0]["break_even"] is None
