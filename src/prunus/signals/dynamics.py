"""Training dynamics of each row, accumulated epoch by epoch in O(n): what AUM, forgetting, EL2N, Dyn-Unc and DUAL read.

An epoch brings at most one presentation of a row; rows that an epoch leaves out keep their state. Every quantity is of
the outputs as they were while training (training mode, augmented inputs), which is not an evaluation pass: say which.

Fields, each `[n]`:
seen: epochs with a presentation. loss_sum, loss_last: of the loss given. aum: SUM over epochs of p_y - max other p
(Zheng et al. 2023; probabilities, not logits), aum_mean: over presentations. entropy_sum, entropy_last: of the
probabilities. el2n_sum: |p - onehot|_2 over the first `el2n_epochs` epochs. correctness: correct presentations.
forgetting: 1 -> 0 transitions between consecutive presentations (Toneva et al. 2019). first_learned: epoch of the first
correct presentation, -1 for never. never_learned. correct_last. p_true_mean, p_true_std: of p_y over presentations
(dataset cartography; std with n). window_std: mean over windows of `window` consecutive presentations of the standard
deviation of p_y (n - 1) within one (Dyn-Unc, He et al. 2024), over the whole run; windows: how many there were.
window_dual: the same, each weighted by the window's mean of 1 - p_y, over the first `early` epochs only (DUAL, Cho et
al. 2025); early_windows: how many there were; p_true_early: mean of p_y over these epochs. A row with fewer
presentations than a window has 0 windows, and 0 in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput, UnknownName

PROVIDES = (
    "seen",
    "loss_sum",
    "loss_last",
    "aum",
    "aum_mean",
    "entropy_sum",
    "entropy_last",
    "el2n_sum",
    "correctness",
    "forgetting",
    "first_learned",
    "never_learned",
    "correct_last",
    "p_true_mean",
    "p_true_std",
    "window_std",
    "windows",
    "window_dual",
    "early_windows",
    "p_true_early",
)
LEVEL = "training"
LABELLED = (
    "loss_sum",
    "loss_last",
    "aum",
    "aum_mean",
    "el2n_sum",
    "correctness",
    "forgetting",
    "first_learned",
    "never_learned",
    "correct_last",
    "p_true_mean",
    "p_true_std",
    "window_std",
    "window_dual",
    "p_true_early",
)
VERSION = 2
MEMORY = "rows * (112 + 4 * window)"
BLOCK = 16_384  # rows whose windows are widened to float64 at a time
WINDOWED = ("window_std", "window_dual")
EARLY = ("window_dual", "early_windows", "p_true_early")

NEEDS = {  # field -> the per-epoch quantity it is made of
    "seen": (),
    "windows": (),
    "loss_sum": ("loss",),
    "loss_last": ("loss",),
    "aum": ("margin",),
    "aum_mean": ("margin",),
    "entropy_sum": ("entropy",),
    "entropy_last": ("entropy",),
    "el2n_sum": ("el2n",),
    **dict.fromkeys(("correctness", "forgetting", "first_learned", "never_learned", "correct_last"), ("correct",)),
    **dict.fromkeys(("p_true_mean", "p_true_std", *WINDOWED, "early_windows", "p_true_early"), ("p_true",)),
}
Floats = NDArray[np.float32] | NDArray[np.float64]


def quantities(need: tuple[str, ...]) -> tuple[str, ...]:
    """Per-epoch quantities that these fields are made of: loss, margin, entropy, el2n, correct, p_true.

    Raises:
        UnknownName: no such field.
    """
    for name in need:
        if name not in NEEDS:
            raise UnknownName("recorded signal", name, NEEDS)
    return tuple(dict.fromkeys(part for name in need for part in NEEDS[name]))


@dataclass
class EpochRows:
    """One epoch's presentations: positions (sorted, unique) and values, one entry per quantity."""

    positions: NDArray[np.int64]
    values: Mapping[str, NDArray[Any]]


class Dynamics:
    """Accumulators of n rows.

    Args:
        rows: n.
        need: fields, see the module docstring; all by default.
        el2n_epochs: epochs that el2n_sum adds up (10 in the released code of CCS).
        window: presentations in a window of window_std and window_dual (10 in both papers).
        early: epochs that window_dual and p_true_early look at (30 in the paper of DUAL on CIFAR, 60 on ImageNet).
    """

    def __init__(
        self,
        rows: int,
        need: tuple[str, ...] = PROVIDES,
        *,
        el2n_epochs: int = 10,
        window: int = 10,
        early: int = 30,
    ) -> None:
        if rows < 1 or el2n_epochs < 1:
            raise BadInput(f"need rows and el2n_epochs of 1 or more, not {rows} and {el2n_epochs}")
        if window < 2 or early < window:
            raise BadInput(
                f"need a window of 2 presentations or more and at least as many early epochs, not {window} and {early}"
            )
        self.rows, self.need, self.el2n_epochs = rows, tuple(need), el2n_epochs
        self.window, self.early = window, early
        self.quantities = quantities(self.need)
        self.epochs = 0
        self._windowed = bool(set(WINDOWED) & set(self.need))
        self._early = bool(set(EARLY) & set(self.need))
        self._state: dict[str, NDArray[Any]] = {"seen": np.zeros(rows, np.int32)}
        for quantity in self.quantities:
            self._state |= self._zeros(quantity)

    def _zeros(self, quantity: str) -> dict[str, NDArray[Any]]:
        n = self.rows
        if quantity == "correct":
            return {
                "correctness": np.zeros(n, np.int32), "forgetting": np.zeros(n, np.int32),
                "first_learned": np.full(n, -1, np.int32), "correct_last": np.zeros(n, np.bool_),
            }  # fmt: skip
        if quantity == "p_true":
            zeros = {"p_sum": np.zeros(n), "p_square": np.zeros(n)}
            if self._windowed:
                zeros |= {"ring": np.zeros((n, self.window), np.float32)}
                zeros |= {"std_sum": np.zeros(n), "dual_sum": np.zeros(n)}
            if self._early:
                zeros |= {"early_seen": np.zeros(n, np.int32), "early_sum": np.zeros(n)}
            return zeros
        sums: dict[str, NDArray[Any]] = {f"{quantity}_sum": np.zeros(n)}
        if quantity in ("loss", "entropy"):
            sums[f"{quantity}_last"] = np.zeros(n, np.float32)
        return sums

    def update(self, epoch: EpochRows) -> None:
        """Add one epoch. Rows it does not hold keep their state."""
        at, values, state = epoch.positions, epoch.values, self._state
        missing = set(self.quantities) - set(values)
        if missing:
            raise BadInput(
                f"epoch {self.epochs} lacks {sorted(missing)}: give logits= and labels= (or loss=) to the recorder"
            )
        for name in ("loss", "margin", "entropy", "el2n"):
            if name in self.quantities and (name != "el2n" or self.epochs < self.el2n_epochs):
                state[f"{name}_sum"][at] += values[name]
            if f"{name}_last" in state:
                state[f"{name}_last"][at] = values[name]
        if "correct" in self.quantities:
            self._learning(at, values["correct"].astype(np.bool_))
        if "p_true" in self.quantities:
            self._confidence(at, values["p_true"])
        state["seen"][at] += 1
        self.epochs += 1

    def _learning(self, at: NDArray[np.int64], correct: NDArray[np.bool_]) -> None:
        state = self._state
        state["forgetting"][at] += state["correct_last"][at] & ~correct
        state["correctness"][at] += correct
        new = at[correct & (state["first_learned"][at] < 0)]
        state["first_learned"][new] = self.epochs
        state["correct_last"][at] = correct

    def _confidence(self, at: NDArray[np.int64], p_true: Floats) -> None:
        state = self._state
        state["p_sum"][at] += p_true
        state["p_square"][at] += np.square(p_true, dtype=np.float64)
        if self._early and self.epochs < self.early:
            state["early_seen"][at] += 1
            state["early_sum"][at] += p_true
        if not self._windowed:
            return
        seen = state["seen"][at]
        state["ring"][at, seen % self.window] = p_true
        full = at[seen + 1 >= self.window]
        for start in range(0, full.size, BLOCK):
            self._close_windows(full[start : start + BLOCK])

    def _close_windows(self, at: NDArray[np.int64]) -> None:
        """Add the window that ends now."""
        ring = self._state["ring"][at].astype(np.float64)
        spread = ring.std(axis=1, ddof=1)
        self._state["std_sum"][at] += spread
        if self.epochs < self.early:
            self._state["dual_sum"][at] += spread * (1 - ring.mean(axis=1))

    def fields(self) -> dict[str, NDArray[Any]]:
        """The fields asked for; int64, bool or float32 `[n]`."""
        state = self._state
        seen = state["seen"].astype(np.float64)
        once = np.maximum(seen, 1)
        made: dict[str, NDArray[Any]] = {"seen": state["seen"].astype(np.int64)}
        made["windows"] = np.maximum(made["seen"] - self.window + 1, 0)
        for name in ("loss", "entropy"):
            made |= {key: state[key] for key in (f"{name}_sum", f"{name}_last") if key in state}
        if "margin_sum" in state:
            made |= {"aum": state["margin_sum"], "aum_mean": state["margin_sum"] / once}
        if "el2n_sum" in state:
            made["el2n_sum"] = state["el2n_sum"]
        if "correctness" in state:
            made |= {name: state[name].astype(np.int64) for name in ("correctness", "forgetting", "first_learned")}
            made |= {"never_learned": state["first_learned"] < 0, "correct_last": state["correct_last"]}
        if "p_sum" in state:
            mean = state["p_sum"] / once
            spread = np.sqrt(np.maximum(state["p_square"] / once - np.square(mean), 0))
            made |= {"p_true_mean": mean, "p_true_std": spread}
        if "std_sum" in state:
            made["window_std"] = state["std_sum"] / np.maximum(made["windows"], 1)
        if "early_seen" in state:
            early = state["early_seen"].astype(np.int64)
            made["early_windows"] = np.maximum(early - self.window + 1, 0)
            made["p_true_early"] = state["early_sum"] / np.maximum(early, 1)
        if "window_dual" in self.need:
            made["window_dual"] = state["dual_sum"] / np.maximum(made["early_windows"], 1)
        return {name: _narrow(made[name]) for name in self.need}

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Everything that `load_state_dict` needs, as arrays."""
        return {**self._state, "epochs": np.array(self.epochs)}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a saved state.

        Raises:
            BadInput: it was made with other rows, fields or windows.
        """
        if set(state) != {*self._state, "epochs"}:
            raise BadInput(
                f"the saved state has {sorted(state)}, these options need {sorted(self._state)}: same need= and window="
            )
        for name, old in self._state.items():
            if state[name].shape != old.shape:
                raise BadInput(f"the saved {name} is {list(state[name].shape)}, not {list(old.shape)}")
            self._state[name] = state[name].astype(old.dtype)
        self.epochs = int(state["epochs"])


def _narrow(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.float32) if values.dtype == np.float64 else values
