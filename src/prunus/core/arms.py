"""Arms: the rows of a Results table put together over seeds, dense first, controls last. What tables and charts are drawn from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunus.core.results import Results, Row

_SHARES = ("accuracy", "top1", "top5", "f1", "auc", "recall", "precision", "agreement", "map", "share", "sparsity")
_LOWER = ("perplexity", "loss", "error", "macs", "params", "bytes", "rows", "tokens", "ms", "seconds", "mae", "mse")
_LABELS = {"macs": "MACs", "params": "parameters", "ms": "", "seconds": ""}
_COUNTS = ("macs", "params", "bytes", "rows", "tokens", "samples", "weights", "flops")


@dataclass(frozen=True)
class Number:
    """A value with its 95 % interval; `seeds` tells how many runs it is the mean of."""

    value: float
    interval: tuple[float, float] | None = None
    seeds: int = 1


@dataclass(frozen=True)
class Arm:
    """One line of a table: what was measured for one arm at one budget.

    Attributes:
        what: name of the arm; method: id, or "" for dense; budget: as typed, or "".
        control: True for controls.
        numbers: metric -> Number.
        cost: mean of each cost entry over the seeds.
        notes: the rows' notes, each once.
        against: name of the dense arm it is compared with; "" where there is one only.
        like: the one arm that a control is for; "" for one that serves every arm.
    """

    what: str
    method: str
    budget: str
    control: bool
    numbers: dict[str, Number] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    against: str = ""
    like: str = ""

    @property
    def dense(self) -> bool:
        """True for what was there before pruning: no method and no budget."""
        return not self.method and not self.budget and not self.control

    @property
    def role(self) -> str:
        """dense, control or pruned."""
        return "dense" if self.dense else "control" if self.control else "pruned"


def arms(results: Results) -> tuple[Arm, ...]:
    """Group the rows by (what, budget), each metric averaged over its seeds; dense first, controls last, order kept otherwise."""
    grouped: dict[tuple[Any, ...], list[Row]] = {}
    for row in results:
        grouped.setdefault((row.what, row.method, row.budget, row.control), []).append(row)
    found = [_arm(rows) for rows in grouped.values()]
    return tuple(sorted(found, key=lambda arm: ("dense", "pruned", "control").index(arm.role)))


def notes(found: Iterable[Arm]) -> tuple[str, ...]:
    """What a reader must know, each thing once: sentences first, then facts (`rows=444; test_passes=10 to 24`) in one line."""
    sentences: dict[str, None] = {}
    facts: dict[str, dict[str, None]] = {}
    for part in (part for arm in found for note in arm.notes for part in note.split("; ")):
        name, equals, value = part.partition("=")
        if equals and name.isidentifier():
            facts.setdefault(name, {})[value] = None
        else:
            sentences[part] = None
    line = "; ".join(f"{name}={_several(list(values))}" for name, values in facts.items())
    return (*sentences, line) if line else tuple(sentences)


def _several(values: list[str]) -> str:
    if len(values) > 2 and all(value.isdecimal() for value in values):
        return f"{min(map(int, values))} to {max(map(int, values))}"
    return ", ".join(values)


def dense_of(arm: Arm, found: Iterable[Arm]) -> Arm | None:
    """The dense arm that an arm is compared with: the one it names, else the first."""
    dense = [one for one in found if one.dense]
    return next((one for one in dense if one.what == arm.against), dense[0] if dense else None)


def metrics(results: Iterable[Row]) -> tuple[str, ...]:
    """Names of the metrics, in order of appearance."""
    return tuple(dict.fromkeys(row.metric for row in results))


def _arm(rows: list[Row]) -> Arm:
    numbers = {metric: _number([row for row in rows if row.metric == metric]) for metric in metrics(rows)}
    keys = dict.fromkeys(key for row in rows for key in row.cost)
    cost = {key: _mean([row.cost[key] for row in rows if key in row.cost]) for key in keys}
    notes = tuple(dict.fromkeys(row.note for row in rows if row.note))
    first = rows[0]
    return Arm(first.what, first.method, first.budget, first.control, numbers, cost, notes, first.dense, first.like)


def _number(rows: list[Row]) -> Number:
    if len(rows) == 1:
        return Number(rows[0].value, rows[0].interval)
    values = [row.value for row in rows]
    spread = len(set(values)) > 1  # counts are the same for every seed and need no interval
    return Number(_mean(values), mean_interval(values) if spread else None, len(values))


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def mean_interval(values: list[float]) -> tuple[float, float]:
    """95 % t-interval of the mean of two or more values."""
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs]

    mean = _mean(values)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
    half = float(stdtrit(len(values) - 1, 0.975)) * spread
    return (mean - half, mean + half)


def better_is(metric: str) -> str:
    """higher, lower, or "" where the name doesn't tell."""
    words = metric.lower().replace("-", "_").split("_")
    if any(word in _LOWER for word in words):
        return "lower"
    return "higher" if any(word in _SHARES for word in words) else ""


def is_quality(metric: str) -> bool:
    """Whether the metric tells how good a model is (accuracy, perplexity), not how large or how fast."""
    words = set(metric.lower().replace("-", "_").split("_"))
    return bool(better_is(metric)) and not words & {*_COUNTS, "ms", "seconds"}


def label(metric: str) -> str:
    """A metric's name as people write it: `latency_ms` is latency (its values carry the unit), `macs` are MACs."""
    words = [_LABELS.get(word, word) for word in metric.split("_")]
    return " ".join(word for word in words if word) or metric


def is_share(metric: str, value: float) -> bool:
    """Whether the number is a share of one, shown in percent."""
    return abs(value) <= 1 and any(word in _SHARES for word in metric.lower().replace("-", "_").split("_"))


def show(metric: str, value: float) -> str:
    """A value as people read it: `91.3 %`, `40.8 M`, `3.21 ms`, `23.3`."""
    words = metric.lower().replace("-", "_").split("_")
    if not math.isfinite(value):
        return str(value)
    if is_share(metric, value):
        return f"{100 * value:.1f} %"
    if any(word in _COUNTS for word in words):
        return count(value)
    if "ms" in words:
        return f"{_three(value)} ms"
    if "seconds" in words:
        return f"{_three(value)} s"
    return f"{value:.4g}"


def _three(value: float) -> str:
    """Three significant digits, trailing zeros kept: `2.40`, `24.0`, `240`."""
    if value == 0:
        return "0"
    return f"{value:#.3g}".rstrip(".") if abs(value) < 1e3 else f"{value:,.0f}".replace(",", " ")


def count(value: float) -> str:
    """A count with its SI letter from ten thousand up: `9 850`, `272 k`, `40.8 M`."""
    for least, size, letter in ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / size:.3g} {letter}"
    return f"{value:,.0f}".replace(",", " ") if value == int(value) else f"{value:.4g}"


def show_interval(metric: str, number: Number) -> str:
    """`90.8 to 91.9 %`, in the unit of the value; "" without an interval."""
    if number.interval is None:
        return ""
    low, high = number.interval
    if is_share(metric, number.value):
        return f"{100 * low:.1f} to {100 * high:.1f}"
    return f"{show(metric, low).removesuffix(' ms').removesuffix(' s')} to {show(metric, high)}"
