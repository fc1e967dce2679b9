"""What a pass over data will cost: 20 batches are timed; too long, too large or too full is refused, naming a cheaper door."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus.cli.show import facts, show
from prunus.core import files
from prunus.core.environment import memory_free, peak_bytes
from prunus.core.errors import ResourceError

if TYPE_CHECKING:
    from prunus.prunables.dataset import Dataset

BATCHES = 20
WORTH = 10  # a real pass is timed first only when it is this many times longer than the timing


@dataclass(frozen=True)
class Pass:
    """Work over rows.

    Attributes:
        data: the rows.
        job: does the work on some of them; returns the bytes its result takes.
        batch: rows at a time.
        times: how often all rows are passed.
        keeps: results stay in memory until the end (else they go to disk as they come).
        writes: results go to disk.
        cheaper: what to do if it is too much.
    """

    data: Dataset
    job: Callable[[Dataset], int]
    batch: int = 64
    times: float = 1.0
    keeps: bool = True
    writes: bool = False
    cheaper: str = "fewer rows ('DATA?limit=5000')"


@dataclass(frozen=True)
class Forecast:
    """The cost of a pass: rows handled in all, rows a second, hours, bytes of memory at its peak, bytes on disk."""

    rows: int
    timed_rows: int
    rows_per_second: float
    hours: float
    ram: int
    disk: int


def foresee(work: Pass, *, dry_run: bool, max_hours: float, as_json: bool, out: str | Path = ".") -> bool:
    """Time some batches where that is asked for or worth it.

    Returns:
        True when the verb ends here, because only the forecast was asked for.

    Raises:
        ResourceError: more hours than `max_hours`, more memory than is free, more disk than is free at `out`.
    """
    if not dry_run and len(work.data) * work.times <= WORTH * BATCHES * work.batch:
        return False
    found = forecast(work)
    if dry_run:
        show(asdict(found), as_json=as_json, text=_text(found, max_hours))
    refuse(found, work.cheaper, max_hours=max_hours, out=out)
    return dry_run


def nothing_to_time(*, dry_run: bool, max_hours: float, as_json: bool) -> bool:
    """For verbs that turn out to pass over no rows: True, after saying so, when a dry run was asked for."""
    if dry_run:
        show(
            {"rows": 0, "hours": 0.0, "max_hours": max_hours},
            as_json=as_json,
            text="no pass over data: it takes seconds",
        )
    return dry_run


def forecast(work: Pass) -> Forecast:
    """Run the job on the first 20 batches."""
    import numpy as np

    probe = work.data.select(np.arange(min(len(work.data), BATCHES * work.batch)))
    start = time.perf_counter()
    held = work.job(probe)
    seconds = max(time.perf_counter() - start, 1e-6)
    rows = math.ceil(len(work.data) * work.times)
    whole = int(held * len(work.data) / max(len(probe), 1))
    rate = len(probe) / seconds
    ram = peak_bytes() + (max(whole - held, 0) if work.keeps else 0)
    return Forecast(rows, len(probe), rate, rows / rate / 3600, ram, whole if work.writes else 0)


def refuse(found: Forecast, cheaper: str, *, max_hours: float, out: str | Path) -> None:
    """Raise ResourceError for what this machine can't do, or may not."""
    from prunus.run.progress import duration

    if found.hours > max_hours:
        raise ResourceError(
            f"this would take about {duration(found.hours * 3600)}, more than --max-hours {max_hours:g}; "
            f"cheaper: {cheaper}; or raise --max-hours"
        )
    free, memory = files.free_bytes(out), memory_free()
    if 0 <= free < found.disk:
        raise ResourceError(
            f"this would write about {files.size_text(found.disk)}, {files.size_text(free)} are free; "
            f"choose another --out, or {cheaper}"
        )
    if 0 <= memory < found.ram - peak_bytes():
        raise ResourceError(
            f"this would hold about {files.size_text(found.ram)} in memory, {files.size_text(memory)} are free; "
            f"cheaper: {cheaper}"
        )


def _text(found: Forecast, max_hours: float) -> str:
    from prunus.run.progress import duration

    within = "within" if found.hours <= max_hours else "MORE than"
    pairs: dict[str, Any] = {
        "rows": f"{found.rows:,} in all, {found.timed_rows:,} timed",
        "rate": f"{found.rows_per_second:,.1f} rows a second",
        "time": f"{duration(found.hours * 3600)} ({found.hours:.3g} hours, {within} --max-hours {max_hours:g})",
        "RAM": files.size_text(found.ram),
        "disk": files.size_text(found.disk) if found.disk else "nothing to speak of",
    }
    return facts(pairs)
