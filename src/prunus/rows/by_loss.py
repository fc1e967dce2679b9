"""Dynamics that plan an epoch from the last loss of each row: the table of losses, settled plans, state.

A plan is settled when its epoch is first asked for; the losses that training reports then belong to the next one. The
table is in the order of the ids, so plans do not depend on the order of the data, and draws are keyed hashes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunus.core.errors import BadInput, NonFinite
from prunus.rows.dynamic import EpochPlan, Ids, Rows, check_losses, check_state

STATE = 1
START = 3.0
"""Loss of a row that was never seen, as in the released code of infobatch and seta."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Choice:
    """Rows of an epoch, in the order of the ids.

    Attributes:
        kept: bool `[n]`.
        raised: bool `[n]`, rows whose loss weight is `factor` instead of 1; None for no weights.
        factor: see raised.
    """

    kept: Mask
    raised: Mask | None = None
    factor: float = 1.0


class ByLoss(ABC):
    """What `InfoBatch` and `SeTa` share. A method overrides `_choose`, `bounds` and `_options`."""

    name = ""
    reads_losses = True

    def __init__(self, ids: ArrayLike, *, seed: int, epochs: int | None, delta: float) -> None:
        """Check what every such method has: ids `[n]`, the epochs of the training, the share after which all rows train."""
        self.rows = Rows(ids)
        self.ids: Ids = self.rows.ids
        if epochs is not None and epochs < 1:
            raise BadInput(f"epochs must be at least 1, not {epochs}")
        if not 0 <= delta <= 1:
            raise BadInput(f"delta must lie in [0, 1], not {delta}")
        self.seed, self.epochs, self.delta = seed, epochs, delta
        self.loss = np.full(len(self.rows), START, dtype=np.float32)
        self._settled: tuple[int, Choice, EpochPlan] | None = None
        self._draft: tuple[int, int, Choice] | None = None
        self._reports = 0

    def epoch(self, t: int) -> EpochPlan:
        """The rows of epoch `t` and their loss weights, ids in order. Settles it: earlier epochs are over.

        Raises:
            BadInput: an epoch before the last one that was asked for; the losses it was planned from are gone.
        """
        if self._settled is not None and t == self._settled[0]:
            return self._settled[2]
        if self._settled is not None and t < self._settled[0]:
            raise BadInput(
                f"epoch {t} is over: epoch {self._settled[0]} was planned from later losses; load a state saved in epoch {t}"
            )
        self._settle(t, self._drafted(t))
        assert self._settled is not None
        return self._settled[2]

    def size(self, t: int) -> int:
        """How many rows epoch `t` has, from the losses as they are; settles nothing."""
        if self._settled is not None and t == self._settled[0]:
            return len(self._settled[2])
        return int(np.count_nonzero(self._drafted(t).kept))

    def seen(self, ids: Any, loss: Any) -> None:
        """Write the losses of a batch.

        Args:
            ids: `[B]`, in the order of the losses.
            loss: `[B]`, of each row, before any weighting.

        Raises:
            BadInput: losses without ids, or not one for each id.
            IdMismatch: ids that are not in the data set.
            NonFinite: names the rows whose loss is NaN or infinite. All other losses of the batch are written. Who goes
                on keeps such a row in every epoch, and out of every mean, until its loss is finite again.
        """
        values = np.asarray(loss, dtype=np.float32)
        at = self.rows.ranks(check_losses(None if ids is None else np.asarray(ids), values))
        finite = np.isfinite(values)
        self._reports += 1
        if finite.all():
            self.loss[at] = values
            return
        self.loss[at] = np.where(finite, values, np.nan)
        raise NonFinite(
            f"the loss of rows {self.rows.sorted[at[~finite]][:5].tolist()} is not finite "
            f"({int((~finite).sum())} of {finite.size} in the batch); look at these rows, lower lr or clip gradients"
        )

    @property
    def not_finite(self) -> Ids:
        """Ids whose last loss was NaN or infinite."""
        return self.rows.sorted[np.isnan(self.loss)]

    def state_dict(self) -> dict[str, Any]:
        """Losses, and the plan of the epoch in training: 4 n + n / 4 bytes."""
        state: dict[str, Any] = {"loss": self.loss.copy(), "epoch": -1, **self._identity()}
        if self._settled is not None:
            t, choice, _ = self._settled
            none = np.zeros(0, dtype=bool)
            raised = none if choice.raised is None else choice.raised
            state |= {"epoch": t, "kept": np.packbits(choice.kept), "raised": np.packbits(raised)}
            state["factor"] = choice.factor
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, in the middle of an epoch as well.

        Raises:
            IdMismatch: it belongs to other rows, or to another number of them.
            BadInput: it was made with another seed, other options or by a later prunus.
        """
        check_state(state, self._identity(), what=self.name)
        self.loss = np.array(state["loss"], dtype=np.float32)
        self._settled, self._draft = None, None
        if int(state["epoch"]) >= 0:
            kept, raised = (_unpacked(state[name], self.loss.size) for name in ("kept", "raised"))
            assert kept is not None
            self._settle(int(state["epoch"]), Choice(kept, raised, float(state["factor"])))

    def annealed(self, t: int) -> bool:
        """Whether epoch `t`, counted from 0, comes after `delta` of the training."""
        return self.epochs is not None and t + 1 > self.epochs * self.delta

    @abstractmethod
    def bounds(self, t: int) -> tuple[int, int]:
        """The fewest and the most rows that epoch `t` can have."""

    @abstractmethod
    def _choose(self, t: int) -> Choice:
        """The rows of epoch `t`, from the losses as they are."""

    @abstractmethod
    def _options(self) -> dict[str, Any]:
        """The method's own, which a state must agree with."""

    def _identity(self) -> dict[str, Any]:
        shared = {"seed": self.seed, "epochs": self.epochs, "delta": self.delta}
        rows = {"n": len(self.rows), "rows": self.rows.fingerprint()}
        return {"schema": STATE, **rows, "options": shared | self._options()}

    def _drafted(self, t: int) -> Choice:
        if t < 0:
            raise BadInput(f"epochs count from 0, not {t}")
        if self._draft is None or self._draft[:2] != (t, self._reports):
            self._draft = t, self._reports, self._choose(t)
        return self._draft[2]

    def _settle(self, t: int, choice: Choice) -> None:
        everything = bool(choice.kept.all())
        ids = self.rows.sorted if everything else self.rows.sorted[choice.kept]
        weights = None
        if choice.raised is not None:
            raised = choice.raised if everything else choice.raised[choice.kept]
            weights = np.where(raised, np.float32(choice.factor), np.float32(1))
        self._settled, self._draft = (t, choice, EpochPlan(ids, weights)), None


def _unpacked(bits: Any, size: int) -> Mask | None:
    packed = np.asarray(bits, dtype=np.uint8)
    return np.unpackbits(packed, count=size).astype(bool) if packed.size else None
