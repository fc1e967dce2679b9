"""How far a run is and when it will end: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections import defaultdict
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

QUIET = 30.0


class RunProgress:
    """Counts finished nodes.

    Args:
        total: nodes still to be made, by stage name.
        jobs: processes at work.
        console: where to; default standard error.
        hours: stage name -> hours of one node, where estimated.
    """

    def __init__(
        self, total: dict[str, int], jobs: int, console: Console | None = None, hours: dict[str, float] | None = None
    ) -> None:
        self.left = dict(total)
        self.jobs = max(1, jobs)
        self.console = console or Console(stderr=True)
        self.guess = {name: value * 3600 for name, value in (hours or {}).items()}
        self.took: dict[str, list[float]] = defaultdict(list)
        self.count, self.done = sum(total.values()), 0
        self._last = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[eta]}"),
        )
        self._bar = Progress(*columns, console=self.console) if self.console.is_terminal and self.count else None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("starting", total=self.count, eta="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def eta(self) -> float | None:
        """Seconds to go, from what the same stages took; None while nothing is known."""
        total = 0.0
        for name, count in self.left.items():
            took = self.took.get(name)
            each = sum(took) / len(took) if took else self.guess.get(name)
            if each is None and count:
                return None
            total += count * (each or 0.0)
        return total / self.jobs

    def least(self) -> float:
        """Seconds to go at the least: what the stages seen so far take, none for those not seen yet."""
        known = (count * sum(took) / len(took) for name, count in self.left.items() if (took := self.took.get(name)))
        return sum(known) / self.jobs

    def finished(self, stage: str, label: str, seconds: float) -> None:
        """One node is done."""
        self.took[stage].append(seconds)
        self.left[stage] -= 1
        self.done += 1
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=1, description=label[:60], eta=self._eta_text())
        elif time.monotonic() - self._last >= QUIET:
            self._last = time.monotonic()
            self.say(f"{self.done} of {self.count} stages done, {self._eta_text()}: {label}")

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _eta_text(self) -> str:
        eta = self.eta()
        return "time left not known yet" if eta is None else f"about {duration(eta)} left"


def duration(seconds: float) -> str:
    """Seconds for people: `45 s`, `12 min`, `3.2 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
