"""Bytes and seconds of a report's page: the whole page, and one chart of each kind, wide and narrow. Prints JSON.

Synthetic results of 5 arms at 10 budgets; one chart each; medians over repeats in one process.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable

from prunus.core.arms import arms
from prunus.core.results import Results, Row
from prunus.report import build, page
from prunus.report.charts import arms_chart, curve_chart, histogram_chart
from prunus.report.data import Histogram, ReportData

REPEATS = 5


def results() -> Results:
    """Five arms, ten budgets, five seeds."""
    rows = [Row("dense", "", "", seed, "accuracy", 0.92 + 0.001 * seed) for seed in range(5)]
    for number, arm in enumerate(("a", "b", "c", "random", "rs2")):
        for share in range(10, 101, 10):
            value = 0.92 - 0.02 * (number + 1) * math.exp(-share / 30)
            rows += [
                Row(arm, f"rows/{arm}", f"{share}% rows", s, "accuracy", value + 0.001 * s, control=number > 2)
                for s in range(5)
            ]
    return Results(tuple(rows))


def timed(draw: Callable[[], object]) -> tuple[float, int]:
    """Median seconds, and bytes of what was drawn."""
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        drawn = draw()
        taken.append(time.perf_counter() - start)
    text = drawn if isinstance(drawn, str) else "".join(drawn.values())  # type: ignore[attr-defined]
    return round(statistics.median(taken), 3), len(text.encode())


def main() -> None:
    """Draw everything and print."""
    found = results()
    (curve,) = build.curves(found)
    some = arms(found)[:6]
    bins = tuple(i / 40 for i in range(41))
    bars = Histogram("scores", "el2n", bins, tuple(range(40)), tuple(range(40, 0, -1)))
    drawn = {
        "curve": timed(lambda: curve_chart(curve, "curve")),
        "arms": timed(lambda: arms_chart(some, "accuracy", "arms")),
        "histogram": timed(lambda: histogram_chart(bars, "bars")),
        "page": timed(lambda: page.render(ReportData("Report", found, curves=(curve,), histograms=(bars,)))),
    }
    print(json.dumps({name: {"seconds": seconds, "bytes": size} for name, (seconds, size) in drawn.items()}, indent=1))


if __name__ == "__main__":
    main()
