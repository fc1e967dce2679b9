"""Which methods beat random: what is in the table, how it is judged, and how settings and runs stand side by side."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from prunus.core import files
from prunus.core.errors import BadInput
from prunus.core.results import Results, Row
from prunus.report import figure, markdown, runfolder, settings, text
from prunus.report.data import ReportData
from prunus.report.heat_view import heat_table
from prunus.report.verdicts import RAW, over_arms
from report.reports import PICTURE, data_results, heats, panels, picture_report, picture_results, rest


def cell(name: str, setting: str, budget: str, table: int = 0):
    made = heats(picture_results())[table]
    row = next(row for row in made.rows if row.name == name)
    return row.cells[made.columns.index((setting, budget))]


def test_one_table_for_each_training_with_settings_and_budgets_across():
    tables = heats(picture_results())
    assert [(t.metric, t.against, t.title) for t in tables] == [
        ("accuracy", "random_balanced", "equal steps"),
        ("accuracy", "random_balanced", "equal epochs"),
    ]
    budgets = ("50% rows", "30% rows", "10% rows")
    assert tables[0].columns == tuple((data, budget) for data in ("clean", "noisy") for budget in budgets)
    assert {row.name for row in tables[0].rows} == {*PICTURE, "random"}
    assert [row.name for row in tables[0].rows if row.control] == ["random"]
    assert tables[0].base[0] == pytest.approx(0.68, abs=0.002)
    assert tables[0].dense[0] == pytest.approx(0.72, abs=0.002)


def test_best_mean_difference_first():
    means = [sum(c.difference for c in row.cells) / 6 for row in heats(picture_results())[0].rows]
    assert means == sorted(means, reverse=True)


def test_cells_are_paired_differences_with_holm_over_the_table():
    won = cell("ccs: aum", "clean", "10% rows")
    assert (won.word, won.pairs) == ("better", 5)
    assert won.difference == pytest.approx(0.024, abs=0.002)
    assert won.interval[0] < won.difference < won.interval[1]
    assert cell("el2n_sum + top(keep=hardest)", "noisy", "50% rows").word == "worse"
    assert cell("random", "clean", "50% rows").word == "tie"


def test_the_correction_counts_every_cell_of_the_table():
    """A gain that wins alone ties beside enough noise."""
    gains = [0.02, 0.001, 0.02, 0.004, 0.012]

    def arm(name, values, **more):
        return [Row(name, f"rows/{name}", "30% rows", s, "accuracy", v, **more) for s, v in enumerate(values)]

    base = arm("random_balanced", [0.5] * 5, control=True)
    one = arm("a", [0.5 + gain for gain in gains])
    assert [v.word for v in over_arms(Results((*base, *one)))] == ["better"]
    noisy = [arm(f"n{i}", [0.5 + (-1) ** (i + s) * 0.01 * (s + 1) for s in range(5)]) for i in range(19)]
    (made,) = heats(Results((*base, *one, *(row for rows in noisy for row in rows))))
    assert {c.word for row in made.rows if row.name == "a" for c in row.cells} == {"tie"}


def test_costs_are_in_trainings_on_all_rows():
    steps, epochs = heats(picture_results())
    row = next(row for row in epochs.rows if row.name == "k_center")
    assert row.upfront == pytest.approx(23.2 / 22)
    assert [c.break_even for c in row.cells[:3]] == pytest.approx([23.2 / 11, 23.2 / 15.4, 23.2 / 19.8])
    assert all(c.break_even is None for row in steps.rows for c in row.cells)
    assert next(line["paid"] for line in heat_table(epochs)["lines"] if line["name"] == "k_center") == "1.2 to 2.1"


def test_few_arms_stay_in_the_list_of_comparisons():
    assert not heats(data_results())
    assert rest(data_results()) == data_results()


def test_arms_of_the_picture_are_in_no_other_comparison():
    channels = [Row("taylor", "channels/taylor", "50% macs", s, "accuracy", 0.7 + s / 100) for s in range(3)]
    channels += [replace(r, what="random", method="channels/random", control=True) for r in channels]
    left = rest(picture_results() + Results(tuple(channels)))
    assert {row.what for row in left if not row.what.startswith("dense")} == {"taylor", "random"}
    assert [(v.what, v.against) for v in over_arms(left)] == [("taylor", "random")]


def test_what_a_teacher_taught_is_compared_elsewhere():
    one = [row for row in picture_results() if row.what == "k_center (clean, equal_steps)"]
    taught = [replace(r, what=f"{r.what}, taught by full", cost={**r.cost, "teacher_cpu_s": 22.0}) for r in one]
    plain = [replace(r, what=f"{taught[0].what} (not taught)", control=True, like=taught[0].what) for r in one]
    results = picture_results() + Results((*taught, *plain))
    assert heats(results) == heats(picture_results())
    assert {row.what for row in rest(results)} >= {taught[0].what, plain[0].what}


def test_curves_have_a_panel_for_each_method_and_a_line_for_each_setting():
    steps, _ = panels(picture_results())
    assert steps.names[0] == "ccs: aum" and len(steps.names) == 5
    assert [line.name for line in steps.lines[0]] == [line.name for line in steps.base] == ["clean", "noisy"]
    assert [point.kept for point in steps.lines[0][0].points] == [10, 30, 50]
    assert set(steps.dense) == {"clean", "noisy"}


@pytest.mark.parametrize(
    ("write", "found"),
    [(markdown.render, "**▲ +2.5**"), (text.render, "▲ +2.5"), (markdown.heats, "| all rows |")],
)
def test_every_form_shows_the_table(write, found):
    written = write(picture_report())
    assert "random_balanced" in written and "Holm" in written
    assert found in written


def test_a_cell_with_no_arm_is_a_dash():
    rows = tuple(r for r in picture_results() if not (r.what.startswith("k_center (clean") and r.budget == "10% rows"))
    made = heats(Results(rows))[0]
    line = next(line for line in heat_table(made)["lines"] if line["name"] == "k_center")
    assert line["cells"][2]["difference"] == "–" and line["cells"][3]["difference"] != "–"


def alone(setting: str) -> Results:
    """The rows of one setting as a run of its own has them."""
    rows = [row for row in picture_results() if row.dense == f"dense ({setting})"]
    return Results(tuple(replace(row, what=settings.bare(row.what, setting), dense="dense") for row in rows))


def test_runs_side_by_side_are_settings():
    both = settings.joined([(data, alone(f"{data}, equal_steps")) for data in ("clean", "noisy")])
    (made,) = heats(both)
    expected = heats(picture_results())[0]
    assert made.columns == expected.columns
    assert {r.name: r.cells for r in made.rows} == {r.name: r.cells for r in expected.rows}


def test_a_run_with_settings_of_its_own_keeps_them():
    tagged = settings.joined([("digits", picture_results())])
    assert {row.dense for row in tagged} >= {
        "dense (digits, clean, equal_steps)",
        "dense (digits, noisy, equal_epochs)",
    }
    assert all(row.what.endswith(row.dense.removeprefix("dense")) for row in tagged)
    raw = Row(f"taylor{RAW}", "channels/taylor", "50% macs", 0, "accuracy", 0.5, dense="dense")
    ((row),) = settings.joined([("a", Results((raw,)))])
    assert row.what == f"taylor (a){RAW}"


def test_runs_are_called_by_what_tells_them_apart():
    clean, noisy = ({"run": {"name": "x", "seeds": [n]}, "data": {"a": {"label_noise": n / 5}}} for n in (0, 1))
    assert settings.tags(["x", "y"], [clean, noisy]) == ["x", "y"]
    assert settings.tags(["x", "x"], [clean, noisy]) == ["label_noise=0.0", "label_noise=0.2"]
    assert settings.tags(["x", "x"], [clean, clean]) == ["x 1", "x 2"]


def test_several_run_folders_become_one_report(tmp_path):
    for data in ("clean", "noisy"):
        found = alone(f"{data}, equal_steps")
        for number, what in enumerate(dict.fromkeys(row.what for row in found)):
            found.where(what=what).write(tmp_path / data / "metrics" / f"{number}.jsonl")
        files.write_json(tmp_path / data / "recipe.json", {"run": {"name": data}})
    data = runfolder.read_several([tmp_path / "clean", tmp_path / "noisy"])
    assert [column[0] for column in data.heats[0].columns] == ["clean"] * 3 + ["noisy"] * 3
    (made,) = runfolder.write(data, tmp_path, ("heat",))
    assert made.read_text("utf-8").startswith("| Method | clean 50% |")


def test_the_curves_alone_are_an_image_that_follows_light_and_dark():
    drawn = figure.render(picture_report())
    root = ElementTree.fromstring(drawn)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme:dark" in drawn and "method, clean" in drawn and "random_balanced, noisy" in drawn
    assert set(re.findall(r"var\((--[\w-]+)\)", drawn)) <= set(re.findall(r"(--[\w-]+):#", drawn))
    with pytest.raises(BadInput, match="8 comparisons"):
        figure.render(ReportData("few", data_results()))
