"""Ratios of CPU seconds in one run: the ways take turns, so that a busy moment hurts all of them alike."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import torch

THREADS = 1


def measure(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Processor seconds of each way, `rounds` times in turn, after one unmeasured round."""
    torch.set_num_threads(THREADS)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            start = time.process_time()
            run()
            if number:
                seconds[name].append(time.process_time() - start)
    return seconds


def line(
    figure: str, ways: Mapping[str, Callable[[], object]], *, over: str, limit: float, rounds: int = 9, **facts: object
) -> None:
    """Measure and print one JSON line for each way but `over`: the ratio of fastest rounds, and of each round's pair.

    Args:
        figure: what is measured.
        ways: name -> what to run; `over` is the denominator.
        limit: what the ratio should not exceed; below 1, the figure is a saving.
        facts: sizes to print.
    """
    seconds = measure(ways, rounds)
    base = seconds[over]
    for name in ways:
        if name == over:
            continue
        pairs = sorted(a / b for a, b in zip(seconds[name], base))
        report = {
            "figure": figure, "way": name, "over": over, "ratio": round(min(seconds[name]) / min(base), 4),
            "ratio_median": round(statistics.median(pairs), 4), "limit": limit,
            "cpu_seconds": round(min(seconds[name]), 4), "cpu_seconds_over": round(min(base), 4), "rounds": rounds,
            "threads": THREADS, "torch": torch.__version__, "machine": platform.machine(), **facts,
        }  # fmt: skip
        print(json.dumps(report))
