"""Arms measured with the same seeds: one JSON line each with their numbers, the difference from a control and the verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from prunus.measure.stats import over_seeds, verdicts

Values = Mapping[str, Sequence[float]]


def table(
    head: Mapping[str, object],
    metric: str,
    arms: Values,
    control: str,
    *,
    better: Literal["higher", "lower"] = "higher",
) -> None:
    """Print the arms of one metric, one line each.

    Args:
        head: facts to print with every line.
        metric: name of the numbers.
        arms: arm -> one number for each seed.
        control: the arm that the others are paired with; Holm's correction runs over these pairs.
        better: higher or lower.
    """
    others = [name for name in arms if name != control]
    gaps = {name: over_seeds(dict(enumerate(arms[name])), dict(enumerate(arms[control]))) for name in others}
    words = dict(zip(others, verdicts([gaps[name] for name in others], better=better)))
    for name, values in arms.items():
        row: dict[str, object] = {"arm": name, "metric": metric, "seeds": len(values)}
        row |= {"mean": round(float(np.mean(values)), 4), "values": [round(float(value), 3) for value in values]}
        if name in gaps:
            gap = gaps[name]
            low, high = gap.interval or (float("nan"), float("nan"))
            row |= {"against": control, "difference": round(gap.mean, 4), "interval": [round(low, 4), round(high, 4)]}
            row["verdict"] = words[name]
        print(json.dumps({**head, **row}), flush=True)
