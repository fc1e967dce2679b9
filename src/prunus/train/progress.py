"""A progress bar that is silent when nobody watches."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any


class Bar:
    """Context manager around rich's progress bar; imports it only when it is shown.

    Args:
        show: True, False, or None for "only on a terminal".
        what: text before the bar.
    """

    def __init__(self, show: bool | None, what: str) -> None:
        self._show = sys.stderr.isatty() if show is None else show
        self._what, self._progress, self._task = what, None, None

    def __enter__(self) -> Bar:
        if self._show:
            from rich.console import Console
            from rich.progress import Progress

            self._progress: Any = Progress(console=Console(stderr=True), transient=True)
            self._progress.start()
            self._task: Any = self._progress.add_task(self._what, total=None)
        return self

    def update(self, done: int, total: int | None = None, rate: float | None = None) -> None:
        """Show `done` of `total`."""
        if self._progress is not None:
            text = self._what if rate is None else f"{self._what} lr {rate:.2g}"
            self._progress.update(self._task, completed=done, total=total, description=text)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
