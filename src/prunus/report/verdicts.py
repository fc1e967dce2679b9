"""Comparisons of every pruned arm with every control at the same budget, paired over seeds; the words are those of measure."""

from __future__ import annotations

from prunus.core.arms import Arm, arms, better_is, is_quality, metrics
from prunus.core.results import Results
from prunus.measure.stats import Difference, holm, over_seeds, verdict
from prunus.report.data import Verdict

RAW = ", not recovered"  # how a run names an arm that was measured before its recovery
TAUGHT = ", taught by "  # and one that learned from a teacher


def over_arms(results: Results) -> tuple[Verdict, ...]:
    """One Verdict for each (pruned arm, control, quality metric) with the same budget and the same recovery.

    Needs two seeds that both arms have; with fewer there is no interval and the word is tie. Holm's correction runs over the table.
    """
    found = arms(results)
    pairs = [(arm, other) for arm in found for other in found if _comparable(arm, other)]
    lines = [(arm, other, metric) for arm, other in pairs for metric in metrics(results) if is_quality(metric)]
    paired = [(*line, gap) for line in lines if (gap := difference(results, *line)) is not None]
    adjusted = holm([gap.p for *_, gap in paired])
    return tuple(_verdict(*line, p) for line, p in zip(paired, adjusted))


def _comparable(arm: Arm, other: Arm) -> bool:
    """The same budget, dense model, recovery and teacher; a control that copies one arm (its counts, its rows) is for that arm only."""
    same_recovery = arm.what.endswith(RAW) == other.what.endswith(RAW)
    same_setting = arm.budget == other.budget and arm.against == other.against
    meant = other.like == arm.what.removesuffix(RAW) or (not other.like and _teacher(arm) == _teacher(other))
    return arm.role == "pruned" and other.control and same_setting and same_recovery and meant


def difference(results: Results, arm: Arm, other: Arm, metric: str) -> Difference | None:
    """Arm minus control; None where no seed is in both. A number that no seed changes stands beside every seed of the other."""
    here = results.values(what=arm.what, budget=arm.budget, metric=metric)
    there = results.values(what=other.what, budget=other.budget, metric=metric)
    if set(here) == {None} != set(there):
        here = dict.fromkeys(there, here[None])
    elif set(there) == {None} != set(here):
        there = dict.fromkeys(here, there[None])
    return over_seeds(here, there) if set(here) & set(there) else None


def _teacher(arm: Arm) -> str:
    """Name of the teacher; the setting that may stand behind it is the dense arm's."""
    return arm.what.removesuffix(RAW).partition(TAUGHT)[2].partition(" (")[0]


def _verdict(arm: Arm, other: Arm, metric: str, gap: Difference, p: float) -> Verdict:
    word: str = verdict(gap, better="lower" if better_is(metric) == "lower" else "higher", adjusted=p)
    if word == "worse" and other.method.rpartition("/")[2] == "random":
        word = "below random"
    return Verdict(arm.what, arm.budget, metric, other.what, word, gap.mean, gap.interval, gap.pairs)
