"""Plain-text tables: columns lined up with spaces, numbers to the right. For terminals, logs and `print(results)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prunus.core.arms import Arm, arms, metrics, notes, show, show_interval

if TYPE_CHECKING:
    from prunus.core.results import Results

NO_CONTROL = "no control was run"
INTERVALS = "[95 % interval: over seeds where an arm has several, else over the test rows]"


def columns(head: Sequence[str], lines: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Line up text.

    Args:
        head: column titles.
        lines: cells, one sequence a line, as long as `head`.
        right: numbers of the columns that are set flush right.
    """
    table = [list(head), *[list(line) for line in lines]]
    widths = [max(len(line[i]) for line in table) for i in range(len(head))]
    table.insert(1, ["-" * width for width in widths])
    text = [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width) for i, (cell, width) in enumerate(zip(line, widths))
        )
        for line in table
    ]
    return "\n".join(line.rstrip() for line in text)


def cell(arm: Arm, metric: str) -> str:
    """`91.3 % [90.8 to 91.9]`, or a dash where the arm has no such number."""
    number = arm.numbers.get(metric)
    if number is None:
        return "-"
    interval = show_interval(metric, number)
    return f"{show(metric, number.value)} [{interval}]" if interval else show(metric, number.value)


def results_table(results: Results) -> str:
    """One line an arm, one column a metric, and what a reader must know below."""
    found = arms(results)
    names = metrics(results)
    lines = [[arm.what, arm.budget, arm.role, *(cell(arm, name) for name in names)] for arm in found]
    text = columns(["arm", "budget", "role", *names], lines, right=range(3, 3 + len(names)))
    below = list(notes(found))
    if any(number.interval for arm in found for number in arm.numbers.values()):
        below.append(INTERVALS)
    if found and not any(arm.control for arm in found):
        below.append(NO_CONTROL)
    return "\n".join([text, *dict.fromkeys(below)])
