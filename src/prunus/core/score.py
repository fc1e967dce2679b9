"""Score: one number for each unit. Values are never negated; `sense` says what a large one means."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prunus.core import files
from prunus.core.errors import BadInput, CorruptFile, IdMismatch, NonFinite, UnknownName

if TYPE_CHECKING:
    import numpy as np

SCHEMA = 1
Sense = Literal["keep", "hard", "easy"]
SENSES = ("keep", "hard", "easy")


class LazyValues(Mapping[str, "np.ndarray"]):
    """Group -> values, computed when asked for and not kept: scores of weights are as large as the model."""

    def __init__(self, names: tuple[str, ...], compute: Callable[[str], np.ndarray]) -> None:
        self._names, self._compute = names, compute

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        return self._compute(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names  # Mapping would compute the value to answer

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, eq=False)
class GroupScore:
    """The scores of one group, as selectors see them.

    Attributes:
        values: float `[n]`.
        ids: int64 or unicode `[n]`, unique.
        sense: keep (large stays), hard (large is a hard row), easy (large is an easy row).
        signals: for rows, the Signals of the same rows in the same order (`.labels`, `.embedding`, ...).
        name: of the group, for messages.
    """

    values: np.ndarray
    ids: np.ndarray
    sense: Sense = "keep"
    signals: Any = None
    name: str = ""

    def hardness(self) -> np.ndarray:
        """float64 `[n]`: large = hard. Refuses a `keep` score, which has no such reading."""
        import numpy as np

        if self.sense == "keep":
            raise BadInput(f"the score of {self.name or 'this group'} says what to keep, not what is hard")
        values = np.asarray(self.values, dtype=np.float64)
        return values if self.sense == "hard" else -values

    def keep_order(self, prefer: Literal["hard", "easy"] = "hard") -> np.ndarray:
        """Positions, first to keep first; ties by lower id. `keep` scores: large first; others: `prefer` first.

        Returns:
            int64 `[n]`.

        Raises:
            NonFinite: a value is NaN or infinite.
        """
        import numpy as np

        check_finite(self.name, self.values, self.ids)
        first = np.asarray(self.values, dtype=np.float64) if self.sense == "keep" else self.hardness()
        if self.sense != "keep" and prefer == "easy":
            first = -first
        return np.lexsort((self.ids, -first))


@dataclass(frozen=True, eq=False)
class Score:
    """A score for every unit of a prunable.

    Attributes:
        unit: rows, channels, ...
        values: group name -> float32 or float64 `[size]`.
        sense: how a large value reads.
        ids: group name -> ids aligned with values; None where ids are 0..size-1 (model units).
        fingerprint: of the prunable it was made for.
        provenance: method, options, signals and their keys: what another person needs to make it again.
        signals: rows only, not saved: the Signals that selectors may need (labels, embedding).
    """

    unit: str
    values: Mapping[str, np.ndarray]
    sense: Sense = "keep"
    ids: Mapping[str, np.ndarray] | None = None
    fingerprint: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])
    signals: Any = None

    def __post_init__(self) -> None:
        if self.sense not in SENSES:
            raise BadInput(f"sense must be one of {', '.join(SENSES)}, not {self.sense!r}")
        if self.ids is not None and set(self.ids) != set(self.values):
            raise IdMismatch(f"ids are given for groups {sorted(self.ids)}, values for {sorted(self.values)}")

    def group(self, name: str) -> GroupScore:
        """One group, with ids 0..size-1 where none were given."""
        import numpy as np

        if name not in self.values:
            raise UnknownName("group", name, self.values)
        values = np.asarray(self.values[name])
        ids = np.arange(values.size) if self.ids is None else np.asarray(self.ids[name])
        if ids.shape != (values.shape[0],) and self.unit != "weights":
            raise IdMismatch(f"group {name!r} has {values.shape[0]} values and {ids.size} ids")
        return GroupScore(values, ids, self.sense, self._signals_of(ids), name)

    def _signals_of(self, ids: np.ndarray) -> Any:
        if self.signals is None or len(self.values) == 1:
            return self.signals
        return self.signals.align(ids)

    def check(self) -> Score:
        """Refuse NaN, infinity and duplicate ids, naming them; returns self."""
        import numpy as np

        for name in self.values:
            group = self.group(name)
            check_finite(name, group.values, group.ids)
            unique, counts = np.unique(group.ids, return_counts=True)
            if unique.size != group.ids.size:
                twice = unique[counts > 1][:5].tolist()
                raise BadInput(f"ids of group {name!r} are not unique: {twice} appear more than once")
        return self

    def save(self, folder: str | Path) -> Path:
        """Write `score.json` and `score.safetensors`. Scores of weights are refused: they are as large as the model."""
        if self.unit == "weights":
            raise BadInput(
                "scores of weights are never written: they are as large as the model; keep the signals instead"
            )
        folder = Path(folder)
        names = sorted(self.values)
        arrays = {f"values/{i}": self.group(name).values for i, name in enumerate(names)}
        if self.ids is not None:
            arrays |= {f"ids/{i}": self.ids[name] for i, name in enumerate(names)}
        files.write_arrays(folder / "score.safetensors", arrays)
        head = {"schema": SCHEMA, "unit": self.unit, "sense": self.sense, "groups": names, "ids": self.ids is not None}
        head |= {"fingerprint": self.fingerprint, "provenance": dict(self.provenance)}
        files.write_json(folder / "score.json", head)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Score:
        """Read what `save` wrote."""
        folder = Path(folder)
        head = files.read_head(folder / "score.json", SCHEMA)
        arrays = files.read_arrays(folder / "score.safetensors")
        try:
            values = {name: arrays[f"values/{i}"] for i, name in enumerate(head["groups"])}
            ids = {name: arrays[f"ids/{i}"] for i, name in enumerate(head["groups"])} if head["ids"] else None
            return cls(head["unit"], values, head["sense"], ids, head["fingerprint"], head["provenance"])
        except (KeyError, TypeError) as error:
            raise CorruptFile(f"{folder} does not hold a whole score: {error!r}") from error


def check_finite_rows(name: str, x: np.ndarray, ids: np.ndarray) -> None:
    """Raise NonFinite, naming the signal and the first ids, when a row of `x [n, ...]` holds NaN or infinity."""
    import numpy as np

    wrong = np.zeros(len(x), dtype=bool)
    for low in range(0, len(x), 4096):  # no mask as large as a signal that is mapped
        part = ~np.isfinite(x[low : low + 4096])
        wrong[low : low + 4096] = part.reshape(len(part), -1).any(1)
    if wrong.any():
        raise NonFinite(f"{name} is not finite in {int(wrong.sum())} rows, such as ids {ids[wrong][:5].tolist()}")


def check_finite(name: str, values: np.ndarray, ids: np.ndarray) -> None:
    """Raise NonFinite, naming the group and the first ids, when a value is NaN or infinite."""
    import numpy as np

    bad = ~np.isfinite(values)
    if not bad.any():
        return
    where = np.flatnonzero(bad.reshape(-1))[:5]
    named = ids[where].tolist() if ids.size == values.size else where.tolist()
    raise NonFinite(
        f"{int(bad.sum())} of {values.size} scores of {name or 'the group'} are NaN or infinite, at ids {named}"
    )
