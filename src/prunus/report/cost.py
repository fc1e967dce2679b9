"""What an arm cost and when it pays: break-even = (signals + selection + teacher) / (full training - training on what is kept)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from prunus.core.arms import Arm, dense_of
from prunus.measure import stats
from prunus.report.build import kept_share

SIGNALS, SELECTION, TRAINING, RECOVERY = "signals_cpu_s", "selection_cpu_s", "training_cpu_s", "recovery_cpu_s"
TEACHER, SAMPLES = "teacher_cpu_s", "samples"
PARTS = (SAMPLES, SIGNALS, SELECTION, TEACHER, TRAINING, RECOVERY)


@dataclass(frozen=True)
class CostRow:
    """CPU-seconds of one arm, samples seen in training, and after how many trainings the work before them is paid back."""

    what: str
    budget: str
    samples: float | None
    signals: float | None
    selection: float | None
    teacher: float | None
    training: float | None
    recovery: float | None
    break_even: float | None
    words: str


def cost_rows(arms: tuple[Arm, ...]) -> tuple[CostRow, ...]:
    """One row for each arm that states a cost. Full training is that of the dense arm."""
    return tuple(_row(arm, full_training(arm, dense_of(arm, arms))) for arm in arms if arm.cost)


def full_training(arm: Arm, dense: Arm | None) -> float | None:
    """CPU-seconds of training on everything, which an arm that trains on fewer rows saves a part of.

    Where the arm was trained for about as many samples (equal steps), no more than its own: what the clock shows is noise.
    """
    if dense is None or not arm.method.startswith("rows/"):
        return None
    full, share = dense.cost.get(TRAINING), kept_share(arm.budget)
    if full is None or share is None or not {SAMPLES} <= arm.cost.keys() & dense.cost.keys():
        return full
    half_way = dense.cost[SAMPLES] * (1 + share / 100) / 2
    return full if arm.cost[SAMPLES] < half_way else min(full, arm.cost.get(TRAINING, full))


def _row(arm: Arm, full: float | None) -> CostRow:
    trainings, words = (None, "") if arm.dense else break_even(arm, full)
    samples, signals, selection, teacher, training, recovery = (arm.cost.get(name) for name in PARTS)
    return CostRow(
        arm.what, arm.budget, samples, signals, selection, teacher, training, recovery, trainings, words
    )  # fmt: skip


def break_even(arm: Arm, full: float | None) -> tuple[float | None, str]:
    """Number of trainings after which the arm has paid for its signals, selection and teacher, and the same in words."""
    if full is None or TRAINING not in arm.cost:
        return None, ""
    signals, selection = arm.cost.get(SIGNALS, 0.0), arm.cost.get(SELECTION, 0.0) + arm.cost.get(TEACHER, 0.0)
    trainings = stats.break_even(signals=signals, selection=selection, full=full, subset=arm.cost[TRAINING])
    if math.isinf(trainings):
        return None, "never: training is not shorter"
    return trainings, "in the first training" if trainings <= 1 else f"after {trainings:.1f} trainings"
