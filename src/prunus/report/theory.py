"""The theory of the perceptron beside what was measured: the error of keeping the hard or the easy end, over that of random rows.

Absolute errors of a perceptron say nothing about a network. What the theory predicts is which end is better, and how that turns
round with the amount of data; its one number, examples per parameter, is read off the measured curve of random rows.
"""

from __future__ import annotations

import re

from prunus.core.arms import is_share
from prunus.maths.perceptron_theory import FEWEST, MOST, examples_per_parameter, expected_errors
from prunus.report.data import Curve, Panels, Point, Series
from prunus.report.settings import shown

ENDS = {"hard": "hard", "hardest": "hard", "easy": "easy", "easiest": "easy"}
_WORD = re.compile(r"(?<![\w.])(hardest|hard|easiest|easy)(?![\w.])")
_TOP = re.compile(r"\+ top(?!\()")


def kept_end(name: str) -> str:
    """Which end an arm keeps by its name (`el2n + top(keep=easiest)`, `ssp hard`; `el2n + top` keeps the hard one), or ""."""
    found = _WORD.search(name)
    return ENDS[found[1]] if found else "hard" if _TOP.search(name) else ""


def theory_curves(panels: tuple[Panels, ...]) -> tuple[Curve, ...]:
    """For every setting in which an arm keeps one end: measured and expected error over that of random rows."""
    found = [_curve(drawn, base) for drawn in panels for base in drawn.base]
    return tuple(curve for curve in found if curve is not None)


def _curve(drawn: Panels, base: Series) -> Curve | None:
    random = {point.kept: 1 - point.value for point in base.points}
    measured = [
        Series(name, points)
        for name, lines in zip(drawn.names, drawn.lines)
        if kept_end(name) and (points := _ratios(lines, base.name, random))
    ]
    share = all(is_share(drawn.metric, point.value) for point in base.points)
    if not measured or not share or len(random) < 2 or min(random.values()) <= 0:
        return None
    shares = sorted(random)
    total = examples_per_parameter([kept / 100 for kept in shares], [random[kept] for kept in shares])
    if total in (FEWEST, MOST):
        return None  # random rows fall as no curve of the theory does: other things decide, such as too few steps
    expected = _expected(total, shares, {kept_end(line.name) for line in measured})
    setting = ", ".join(filter(None, [shown(base.name), drawn.title]))
    title = f"Error over that of {drawn.against}: measured, and expected by the perceptron theory"
    note = (
        f"expected lines are those of {total:.2g} examples per parameter, at which random rows fall as steeply as here"
    )
    title += f", {setting}" if setting else ""
    lines = (*measured, *expected)
    return Curve("error", lines, "rows", dense=1.0, title=title, note=note, level=drawn.against, ratio=True)


def _ratios(lines: tuple[Series, ...], setting: str, random: dict[float, float]) -> tuple[Point, ...]:
    points = [point for line in lines if line.name == setting for point in line.points if random.get(point.kept)]
    return tuple(Point(point.kept, (1 - point.value) / random[point.kept]) for point in points)


def _expected(total: float, shares: list[float], ends: set[str]) -> tuple[Series, ...]:
    kept = [share / 100 for share in shares]
    beside = expected_errors(total, kept)
    return tuple(
        Series(
            f"theory, {end} end kept",
            tuple(map(Point, shares, (expected_errors(total, kept, end) / beside).tolist())),
            expected=True,
        )
        for end in ("hard", "easy")
        if end in ends
    )
