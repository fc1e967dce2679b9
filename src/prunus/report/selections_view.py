"""Selections as the strings of a page, a Markdown file or a terminal."""

from __future__ import annotations

from typing import Any

from prunus.core.arms import count, label, show
from prunus.report.data import Selections, SharedBars, Utility

DASH = "–"
LABELS = {
    "classes": "classes present",
    "rare_classes": "rare classes",
    "evenness": "evenness of classes",
    "head_share": "held by the largest classes",
    "distance_to_kept": "mean distance to a kept row",
    "radius": "largest distance to a kept row",
    "clusters": "clusters present",
    "label_agreement": "label agrees with neighbours",
    "copy_share": "near copies",
    "rank": "mean rank of the score",
    "knn_accuracy": "nearest neighbours (kNN)",
    "knn_top5_accuracy": "nearest neighbours (kNN), top 5",
    "probe_accuracy": "linear probe",
    "size_correlation": "precision follows class size",
    "target_shift": "shift to the reference",
    "class_shift": "class shares that differ",
}
SHARES = ("class_shift",)  # shown in percent, though their names do not say so


def selections_table(shown: Selections) -> dict[str, Any]:
    """Names, groups of lines (name, aim, cells), overlaps in words, and bars."""
    return {
        "names": [{"name": name, "control": n >= shown.plans} for n, name in enumerate(shown.names)],
        "groups": [{"name": group, "lines": [_line(line) for line in lines]} for group, lines in shown.utilities],
        "overlaps": [_overlap(*pair) for pair in shown.overlaps],
        "bars": [_bars(bars, shown.names[: shown.plans]) for bars in shown.bars],
        "rows": f"{count(shown.rows)} of {count(shown.of)} rows each",
        "witnesses": [
            {
                "name": name,
                "pairs": [{"dropped": w.dropped, "kept": w.kept, "distance": f"{w.distance:.3g}"} for w in found],
            }
            for name, found in shown.witnesses
        ],
    }


def metric_label(metric: str) -> str:
    """A metric of selections as people call it."""
    return LABELS.get(metric, label(metric))


def _line(line: Utility) -> dict[str, Any]:
    cells = []
    for value, spread in zip(line.values, line.ranges):
        ends = "" if spread is None or spread[0] == spread[1] else " to ".join(_value(line.metric, v) for v in spread)
        cells.append({"value": DASH if value is None else _value(line.metric, value), "range": ends})
    return {"name": metric_label(line.metric), "aim": f"{line.aim} is better" if line.aim else "", "cells": cells}


def _value(metric: str, value: float) -> str:
    return f"{100 * value:.1f} %" if metric in SHARES else show(metric, value)


def _overlap(one: str, other: str, both: int, either: int) -> str:
    return (
        f"{one} and {other} share {count(both)} rows: {100 * both / max(either, 1):.0f} % of those that either keeps."
    )


def _bars(bars: SharedBars, names: tuple[str, ...]) -> dict[str, Any]:
    lines = []
    for at, (group, size) in enumerate(zip(bars.groups, bars.sizes)):
        kept = [counts[at] for counts in bars.kept]
        shares = [f"{100 * few / max(size, 1):.2f}" for few in kept]
        told = " / ".join(count(few) for few in kept)
        lines.append({"name": group, "shares": shares, "kept": told, "size": count(size)})
    return {"title": bars.title, "names": list(names), "lines": lines}
