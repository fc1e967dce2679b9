"""Gates: a promise about a result, such as `accuracy >= dense - 0.5`, checked with exit code 4.

accuracy >= dense - 0.5          half a point below dense, at most (shares are counted in points)
perplexity <= dense * 1.1        and   macs <= 0.5 * dense
accuracy >= 90 and params <= 1e6
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prunus.core.arms import is_share
from prunus.core.errors import BadInput, GateFailed, UnknownName

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_NUMBER = r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_CONDITION = re.compile(r"\s*([A-Za-z_][\w.\-@/]*)\s*(>=|<=|>|<)\s*(.+?)\s*")
_DENSE = re.compile(rf"(?:({_NUMBER})\s*\*\s*)?dense(?:\s*\*\s*({_NUMBER}))?(?:\s*([-+])\s*({_NUMBER})\s*(%?))?")
_PLAIN = re.compile(rf"({_NUMBER})\s*(%?)")


@dataclass(frozen=True)
class Condition:
    """One comparison: metric, operator, `factor * dense + offset`. `factor` 0 means a plain number.

    Attributes:
        percent: the offset was written with a percent sign.
    """

    metric: str
    operator: str
    factor: float
    offset: float
    percent: bool
    text: str

    def limit(self, value: float, dense: float | None) -> float:
        """The number the metric is compared with.

        Shares (accuracy, agreement, ...) are stored in [0, 1] and written in points: 0.5 is half a point, 90 is 90 %. A plain
        number up to 1 is taken as the share itself.
        """
        share = is_share(self.metric, value)
        offset = self.offset
        if share and (self.factor or self.percent or abs(offset) > 1):
            offset /= 100
        elif self.percent:
            offset *= (dense or 0.0) / 100
        return offset if self.factor == 0 else self.factor * (dense or 0.0) + offset


def parse(text: str) -> tuple[Condition, ...]:
    """Read a gate: conditions joined by `and`.

    Raises:
        BadInput: the text is no gate.
    """
    return tuple(_condition(part) for part in re.split(r"\s+and\s+|\s*&&?\s*", text.strip()))


def _condition(part: str) -> Condition:
    match = _CONDITION.fullmatch(part)
    if not match:
        raise BadInput(f"{part!r} is no condition; write 'accuracy >= dense - 0.5' or 'macs <= 0.5 * dense'")
    metric, sign, right = match.groups()
    if dense := _DENSE.fullmatch(right):
        before, after, plus, offset, percent = dense.groups()
        factor = float(before or 1) * float(after or 1)
        if factor == 0:
            raise BadInput(f"{part!r} multiplies dense by 0")
        return Condition(metric, sign, factor, float(f"{plus or '+'}{offset or 0}"), bool(percent), part.strip())
    if plain := _PLAIN.fullmatch(right):
        return Condition(metric, sign, 0.0, float(plain[1]), bool(plain[2]), part.strip())
    raise BadInput(f"{right!r} is no limit; write a number, 'dense - 0.5', 'dense * 1.1' or '0.5 * dense'")


def check(text: str, measured: Mapping[str, float], dense: Mapping[str, float] | None = None) -> list[str]:
    """Check a gate.

    Args:
        text: see the module's first lines.
        measured: metric -> value of the pruned arm.
        dense: the same of the dense one, where the gate names it.

    Returns:
        One line for each condition, all of which hold.

    Raises:
        GateFailed: a condition does not hold (a NaN never does); the message lists every one.
        UnknownName: a metric was not measured.
    """
    lines, failed = [], False
    for condition in parse(text):
        value = _value(condition.metric, measured)
        reference = _value(condition.metric, dense or {}, "metric of the dense arm") if condition.factor else None
        limit = condition.limit(value, reference)
        slack = 1e-12 * max(1.0, abs(limit))  # 0.9 - 0.005 must count as 0.895
        compared = value + slack if condition.operator.startswith(">") and "=" in condition.operator else value
        compared = value - slack if condition.operator == "<=" else compared
        holds = math.isfinite(value) and OPERATORS[condition.operator](compared, limit)
        failed |= not holds
        lines.append(f"{'holds' if holds else 'FAILS'}: {condition.text} ({value:.6g} against {limit:.6g})")
    if failed:
        raise GateFailed("; ".join(lines))
    return lines


def _value(metric: str, measured: Mapping[str, float], what: str = "measured metric") -> float:
    if metric not in measured:
        raise UnknownName(what, metric, measured or ["(none)"])
    value = measured[metric]
    return float(value[0]) if isinstance(value, tuple) else float(value)
