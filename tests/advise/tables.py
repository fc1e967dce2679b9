"""Measured tables by hand: one of few rows and wrong labels, one of many clean rows."""

from __future__ import annotations

from typing import Any

from prunus.advise.measured import Arm, Cell, Table
from prunus.advise.probe import Situation

BUDGETS = (0.5, 0.1)


def cells(
    *given: tuple[str, float] | None, wrong: float | None = None, smallest: float = 0.9
) -> tuple[Cell | None, ...]:
    return tuple(
        None if one is None else Cell(one[0], one[1] / 100, ((one[1] - 1) / 100, (one[1] + 1) / 100), wrong, smallest)
        for one in given
    )


def arm(
    method: str,
    select: str,
    made: tuple[Cell | None, ...],
    needs: tuple[str, ...] = ("aum",),
    signals: float = 1.1,
    selection: float = 0.0,
    **options: object,
) -> Arm:
    inside = ", ".join(f"{name}={value}" for name, value in options.items())
    name = select if method == "random" and select else f"{method} + {select}" if select else method
    return Arm(
        f"{name}({inside})" if inside else name, method, select, {}, dict(options), needs, signals, selection, made
    )


def table(run: str, rows: int, noise: float, arms: tuple[Arm, ...], equal: str = "epochs") -> Table:
    return Table(
        run, "12345678", f"{run}.parquet", "prunus:tinycnn", "s", (1, 8, 8), rows, 10, 1.1, noise, equal, 12, 5, "accuracy",
        "random_balanced", 0.97, BUDGETS, (0.95, 0.80), arms,
    )  # fmt: skip


NOISY = table("noisy", 1000, 0.2, (
    arm("aum", "ccs", cells(("tie", 1.0), ("better", 15.0), wrong=0.02), hard_cut=0.3),
    arm("random", "k_center", cells(("tie", 0.2), ("tie", 10.0), wrong=0.25), ("embedding",)),
    arm("random", "", cells(("tie", -0.4), ("tie", 0.5), wrong=0.2), (), 0.0, 0.01),
    arm("el2n_sum", "top", cells(("worse", -9.0), ("worse", -66.0), wrong=0.7, smallest=0.4), ("el2n_sum",), keep="hardest"),
))  # fmt: skip
CLEAN = table("clean", 100_000, 0.0, (
    arm("el2n_sum", "top", cells(("better", 2.0), ("worse", -3.0)), ("el2n_sum",), keep="hardest"),
    arm("random", "k_center", cells(("tie", 0.1), ("tie", -0.5)), ("embedding",)),
    arm("aum", "ccs", cells(("tie", -1.0), None), hard_cut=0.3),
))  # fmt: skip
TABLES = (NOISY, CLEAN)


def situation(rows: int = 1000, kept: int = 100, noise: float | None = 0.2, **changed: Any) -> Situation:
    found: dict[str, Any] = {"inputs": (1, 8, 8), "classes": 10, "imbalance": 1.0, "noise": noise, **changed}
    return Situation("mine", rows, kept, f"{100 * kept / rows:g}% rows", **found)
