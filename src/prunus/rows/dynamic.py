"""What every dynamic shares: the plan of one epoch, the rows it is over, and the protocol that samplers rely on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunus.core.errors import BadInput, IdMismatch

Ids = NDArray[Any]
Positions = NDArray[np.int64]


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

    def size(self, t: int) -> int:
        """How many rows epoch `t` has, as things stand: asking settles nothing."""
        ...

    def bounds(self, t: int) -> tuple[int, int]:
        """The fewest and the most rows that epoch `t` can have, whatever the losses will be."""
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


class Rows:
    """The ids of a data set, found by value. Ranks are places in the order of the ids, positions places in the data.

    Attributes:
        ids: as given `[n]`.
        sorted: in order `[n]`.
    """

    def __init__(self, ids: ArrayLike) -> None:
        """Check the ids: int or text `[n]`, unique, at least one."""
        array = np.asarray(ids)
        if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iuU":
            raise BadInput(f"ids must be int or text [n] and not empty, not {array.dtype} of shape {array.shape}")
        self.ids: Ids = array
        in_order = bool((array[1:] >= array[:-1]).all())
        self._by_id: Positions | None = None if in_order else np.argsort(array, kind="stable")
        self.sorted: Ids = array if self._by_id is None else array[self._by_id]
        repeats = int((self.sorted[1:] == self.sorted[:-1]).sum())
        if repeats:
            raise BadInput(f"ids must be unique; {repeats} of {array.size} repeat")
        # Ids that count on from a first one (0..n-1 most of all) are found by a subtraction.
        counted = array.dtype.kind in "iu" and int(self.sorted[-1]) - int(self.sorted[0]) == array.size - 1
        self._first = int(self.sorted[0]) if counted else None
        self._digests: dict[bool, str] = {}

    def __len__(self) -> int:
        return int(self.ids.size)

    def ranks(self, wanted: Ids, where: str = "the dataset") -> Positions:
        """Ranks of some ids, int64 `[k]`.

        Raises:
            IdMismatch: an id that is not there.
        """
        if (wanted.dtype.kind == "U") != (self.ids.dtype.kind == "U"):
            raise IdMismatch(f"ids of {where} are {self.ids.dtype}, those given are {wanted.dtype}")
        if self._first is not None:
            at = wanted.astype(np.int64) - self._first
            wrong = (at < 0) | (at >= self.ids.size)
        else:
            at = np.minimum(np.searchsorted(self.sorted, wanted), self.ids.size - 1)
            wrong = self.sorted[at] != wanted
        if wrong.any():
            raise IdMismatch(f"{int(wrong.sum())} ids are not in {where}: {wanted[wrong][:5].tolist()}")
        return at

    def positions(self, ranks: Positions) -> Positions:
        """Where the rows of some ranks stand in the data, int64 `[k]`."""
        return ranks if self._by_id is None else self._by_id[ranks]

    def fingerprint(self, labels: NDArray[Any] | None = None, *, in_given_order: bool = False) -> str:
        """Hash of the ids and labels; of their set, not their order, unless asked."""
        if in_given_order not in self._digests:
            order = slice(None) if in_given_order or self._by_id is None else self._by_id
            digest = hashlib.blake2b("\n".join(map(str, self.ids[order].tolist())).encode(), digest_size=16)
            if labels is not None:
                digest.update("\n".join(map(str, labels[order].tolist())).encode())
            self._digests[in_given_order] = digest.hexdigest()
        return self._digests[in_given_order]


def check_losses(ids: Ids | None, values: NDArray[np.float32]) -> Ids:
    """The ids; refuses losses `[B]` that came without them, or not one for each.

    Raises:
        BadInput: as said.
    """
    if ids is None:
        raise BadInput(
            "losses came without ids: have the loader give ids with each batch (signals.recorder.WithIds(dataset, ids))"
        )
    if values.shape != ids.shape or values.ndim != 1:
        raise BadInput(
            f"losses {list(values.shape)} for ids {list(ids.shape)}: give one loss for each id, in the same order "
            "(reduction='none')"
        )
    return ids


def check_state(state: Mapping[str, Any], expected: Mapping[str, Any], *, what: str) -> None:
    """Refuse a state that belongs to something else, with both values.

    Args:
        state: as saved.
        expected: schema, n (number of rows), rows (fingerprint) and options of what is to go on.
        what: its name.

    Raises:
        IdMismatch: other rows, or another number of them.
        BadInput: other options, another seed or a later schema.
    """
    if state.get("schema") != expected["schema"]:
        raise BadInput(f"this prunus reads {what} states of schema {expected['schema']}, not {state.get('schema')}")
    if state.get("n", expected["n"]) != expected["n"]:
        raise IdMismatch(
            f"the state was saved for other rows: {state['n']} of them, now there are {expected['n']}; make a new {what} "
            "when rows change"
        )
    if state["rows"] != expected["rows"]:
        raise IdMismatch(f"the state was saved for other rows; make a new {what} when rows change")
    saved, asked = state["options"], expected["options"]
    names = [name for name in {**saved, **asked} if saved.get(name) != asked.get(name)]
    if names:
        was, now = ({name: some.get(name) for name in names} for some in (saved, asked))
        raise BadInput(f"the state was saved with {was}, this {what} has {now}: go on with the same, or start anew")
