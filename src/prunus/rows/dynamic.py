"""What every dynamic shares: the plan of one epoch, and the protocol that samplers and training loops rely on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[Any]


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """The rows of one epoch.

    Attributes:
        ids: `[m]`, distinct unless the method says otherwise.
        weights: loss weights float32 `[m]`, or None for all ones.
    """

    ids: Ids
    weights: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return int(self.ids.shape[0])


class Dynamic(Protocol):
    """A method that chooses rows anew for every epoch."""

    def epoch(self, t: int) -> EpochPlan:
        """The rows of epoch `t`, counted from 0. Asking again gives the same answer."""
        ...

    def seen(self, ids: Ids, loss: NDArray[np.floating]) -> None:
        """What training reports after a batch, gathered over ranks in id order."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Numbers, texts and arrays with which `load_state_dict` goes on as if nothing had happened."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state; refuses that of another set of rows or other options."""
        ...
