"""What a measure returns: metric -> (value, interval), with the facts a reader needs to compare it with another's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prunus.core.results import Results, Row

if TYPE_CHECKING:
    from prunus.measure.predict import Predictions

Interval = tuple[float, float] | None


class Measured(dict[str, tuple[float, Interval]]):
    """Metric -> (value, 95 % interval or None).

    Attributes:
        predictions: row by row, where accuracy was measured, for pairing with another model's.
        facts: what the numbers depend on: role of the data and rows read, window, dtype, hashes, thread count, ...
    """

    def __init__(self, values: Mapping[str, tuple[float, Interval]], **facts: Any) -> None:
        super().__init__(values)
        self.facts: dict[str, Any] = facts
        self.predictions: Predictions | None = None

    def rows(
        self,
        what: str,
        *,
        method: str = "",
        budget: str = "",
        seed: int | None = None,
        control: bool = False,
        cost: Mapping[str, float] | None = None,
    ) -> Results:
        """The same as rows of Results; the facts go into each row's note."""
        note = "; ".join(f"{name}={value}" for name, value in sorted(self.facts.items()))
        found = [
            Row(what, method, budget, seed, metric, value, interval, control, dict(cost or {}), note)
            for metric, (value, interval) in self.items()
        ]
        return Results(tuple(found))


def role_facts(data: Any, rows: int) -> dict[str, Any]:
    """Rows read, and the role of the data: a number that was not read on val or test is marked as such.

    Reads of a Dataset are also counted by the Dataset itself (`data.reads`).
    """
    role = getattr(data, "role", None)
    facts: dict[str, Any] = {"rows": rows}
    if role is not None:
        facts["role"] = role
    if role in ("fit", "train"):
        facts["warning"] = "measured on rows that may have been trained on"
    reads = getattr(data, "reads", None)
    if role == "test" and reads is not None:
        facts["test_passes"] = reads.passes
    return facts
