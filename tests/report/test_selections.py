"""Selections side by side: the same numbers on the page, in Markdown and in text; bars, examples and nearest kept rows."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from prunus.report import markdown, page, selections, text
from prunus.report.data import SharedBars
from prunus.report.selections_view import metric_label, selections_table
from report.reports import selections_report

data = cache(selections_report)


def test_every_writer_tells_the_same_numbers():
    table = selections_table(data().selections)
    written = [page.render(data()).replace("\u00a0", " "), markdown.render(data()), text.render(data())]
    for group in table["groups"]:
        for line in group["lines"]:
            for cell in line["cells"]:
                assert all(line["name"] in one and cell["value"] in one for one in written)
    assert all(sentence in one for sentence in table["overlaps"] for one in written)
    assert table["overlaps"] == ["hardest and easiest share 0 rows: 0 % of those that either keeps."]


def test_plans_come_first_and_controls_are_called_so():
    shown = data().selections
    assert (shown.names, shown.plans, shown.rows, shown.of) == (
        ("hardest", "easiest", "random", "random_balanced"), 2, 30, 90,
    )  # fmt: skip
    assert page.render(data()).count('<span class="role">control</span>') == 2
    ranks = dict(shown.utilities)["Quality"][-1]
    assert ranks.metric == "rank" and ranks.values[0] > 0.8 and ranks.values[1] < 0.2
    assert ranks.ranges[:2] == (None, None) and ranks.ranges[2][0] < ranks.values[2] < ranks.ranges[2][1]


def test_bars_count_rows_of_classes_and_clusters():
    classes, clusters = data().selections.bars
    assert classes.groups[0] == "ant <b>" and len(clusters.groups) == 5
    for bars in (classes, clusters):
        assert sum(bars.sizes) == 90 and [sum(kept) for kept in bars.kept] == [30, 30]
    assert list(clusters.sizes) == sorted(clusters.sizes, reverse=True)
    assert "ant &lt;b&gt;" in page.render(data()) and "ant <b>" not in page.render(data())


def test_many_groups_are_cut_to_those_that_differ():
    member = np.repeat(np.arange(40), 3)
    ids = np.arange(120)
    kept = {"a": ids[:60], "b": np.concatenate([ids[:30], ids[90:120]])}  # clusters 10 to 19 and 30 to 39 differ
    bars = selections._bars("cluster", member, [str(n) for n in range(40)], ids, kept)
    assert isinstance(bars, SharedBars) and "the 24 of 40" in bars.title
    assert {*map(str, range(10, 20)), *map(str, range(30, 40))} <= set(bars.groups)


def test_dropped_rows_stand_beside_the_nearest_kept_row_from_near_to_far():
    (name, found), _ = data().selections.witnesses
    distances = [one.distance for one in found]
    assert name == "hardest" and len(found) == selections.WITNESSES and distances == sorted(distances)
    assert all(one.dropped.source.startswith("data:image/png") for one in found)
    assert all(re.fullmatch(r".+, img/\d{3}\.png", one.kept.caption) for one in found)
    titles = [title for title, _ in data().selections.pictures]
    assert titles == ["Only in hardest", "Only in easiest"]


def test_rows_that_are_no_images_are_named():
    from prunus.prunables.dataset import Dataset

    rows = Dataset(np.eye(4, dtype=np.float32), ids=np.array(["a", "b", "c", "d"]))
    shown = selections.Draw(rows)(np.array(["d", "a", "d"]))
    assert [one.caption for one in shown] == ["d", "a", "d"] and not any(one.source for one in shown)
    assert selections.pictures({"x": rows.ids[:2]}, selections.Draw(rows)) == ()


def test_verdicts_pair_the_reference_and_name_all_that_is_beside():
    found = {(one.what, one.against): one for one in data().verdicts}
    assert set(found) == {
        ("hardest", "easiest"), ("hardest", "random"), ("hardest", "random_balanced"),
        ("easiest", "random"), ("easiest", "random_balanced"),
    }  # fmt: skip
    assert all(one.pairs == 30 and one.metric == "knn_accuracy" for one in found.values())
    assert "Against the controls" in page.render(data())


def test_a_report_without_selections_has_no_such_section():
    bare = replace(data(), selections=None)
    assert 'id="selections"' not in page.render(bare) and "side by side" not in markdown.render(bare)


@pytest.mark.parametrize(
    ("metric", "name"), [("radius", "largest distance to a kept row"), ("smallest_class", "smallest class")]
)
def test_metrics_have_names_people_read(metric, name):
    assert metric_label(metric) == name
