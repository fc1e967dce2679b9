"""Results: one line for each measured number, with its interval, its control, its cost and its environment."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from prunus.core import files
from prunus.core.errors import CorruptFile


@dataclass(frozen=True)
class Row:
    """One measured number.

    Attributes:
        what: the arm: dense, el2n + ccs, taylor + joint_ls, ...
        method: id of the method, or "" for the dense arm.
        budget: as typed, or "".
        seed: of training, or None when the number has none.
        metric: accuracy, perplexity, macs, ...
        value: the number.
        interval: 95 % interval, or None.
        control: True when the arm is a control.
        cost: samples and CPU-seconds of signals, selection and training, where they apply.
        note: what a reader must know (was read on test, masked model, ...).
        dense: name of the dense arm it is compared with, where a table has several.
        like: for a control that copies one arm's counts and compensation: that arm; "" for one that serves every arm.
    """

    what: str
    method: str
    budget: str
    seed: int | None
    metric: str
    value: float
    interval: tuple[float, float] | None = None
    control: bool = False
    cost: Mapping[str, float] = field(default_factory=dict[str, float])
    note: str = ""
    dense: str = ""
    like: str = ""


@dataclass(frozen=True)
class Results:
    """Rows and the environment in which they were measured."""

    rows: tuple[Row, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __add__(self, other: Results) -> Results:
        return Results(self.rows + other.rows, {**self.environment, **other.environment})

    def where(self, **equal: Any) -> Results:
        """The rows whose fields equal the given values."""
        kept = tuple(row for row in self.rows if all(getattr(row, name) == value for name, value in equal.items()))
        return Results(kept, self.environment)

    def values(self, **equal: Any) -> dict[int | None, float]:
        """seed -> value for the rows that match; for pairing by seed."""
        return {row.seed: row.value for row in self.where(**equal)}

    def write(self, path: str | Path) -> Path:
        """One JSON object a line."""
        lines = [json.dumps(asdict(row), sort_keys=True, ensure_ascii=False) for row in self.rows]
        return files.write_bytes(path, ("\n".join(lines) + "\n").encode() if lines else b"")

    @classmethod
    def read(cls, paths: Iterable[str | Path], environment: Mapping[str, Any] | None = None) -> Results:
        """Read the lines of one or more files."""
        rows: list[Row] = []
        for path in paths:
            for number, line in enumerate(Path(path).read_text("utf-8").splitlines(), 1):
                try:
                    entry = json.loads(line)
                    entry["interval"] = tuple(entry["interval"]) if entry.get("interval") else None
                    rows.append(Row(**entry))
                except (json.JSONDecodeError, TypeError, KeyError) as error:
                    raise CorruptFile(f"{path}, line {number} is not a result: {error}") from error
        return cls(tuple(rows), environment or {})

    def __str__(self) -> str:
        """The aligned table of arms, dense first, controls last."""
        from prunus.core.table import results_table

        return results_table(self)
