"""Normalisation: makes the scores of different groups comparable before one ranking over all of them.

none: as they are. mean, sum, max: each group divided by its own (mean is what the reference library for channels does).
zscore: each group minus its mean, over its unbiased deviation (FLAP). isomorphic: the share of units of all groups
with the same tag that score lower, so that a global cut keeps the same share of every kind of layer and ranks only
inside a kind (Fang et al. 2024). minmax: each group moved and scaled to 0..1 (Beta-Rank). lamp: a unit's score over the
sum of all scores in its group that are not below it (Lee et al. 2021, there for weights): what it holds of what would be
left when it goes. kl: what the group has lost once the unit and all below it are gone, in nats: the divergence between
its scores as a distribution and the same without them, -log of the share that is left; one threshold over all groups
then takes the same loss from each. (lamp is read over from weights, kl is our own: no paper fixes it for channels.)

A group whose divisor is 0 has all scores equal to 0 or to each other: it becomes 0. lamp and kl take scores >= 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput, UnknownName
from prunus.core.score import check_finite

Floats = NDArray[np.float64]
Scores = Mapping[str, NDArray[np.floating]]
Normalise = Literal["none", "mean", "sum", "max", "minmax", "zscore", "lamp", "kl", "isomorphic"]
LEAST = float(np.finfo(np.float64).tiny)  # stands for the share that is left when the last unit goes


def normalise(scores: Scores, how: Normalise = "none", tags: Mapping[str, str] | None = None) -> dict[str, Floats]:
    """Scores on a common scale; the order inside a group never changes.

    Args:
        scores: group -> values `[size]`.
        how: as in the module's first lines.
        tags: group -> tag, for isomorphic; groups without a tag are all of one kind.

    Raises:
        UnknownName: no such normalisation.
        NonFinite: a score is NaN or infinite.
        BadInput: a negative score under lamp or kl.
    """
    if how not in get_args(Normalise):
        raise UnknownName("normalisation", how, get_args(Normalise))
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    for name, values in arrays.items():
        check_finite(name, values, np.arange(values.size))
    if how == "isomorphic":
        return _ranked_by_kind(arrays, tags or {})
    if how in ("lamp", "kl"):
        return {name: _of_what_is_left(name, values, how) for name, values in arrays.items()}
    return {name: values.copy() if how == "none" else _scaled(values, how) for name, values in arrays.items()}


def _scaled(values: Floats, how: str) -> Floats:
    if values.size == 0:
        return values
    if how == "zscore":
        spread = float(values.std(ddof=1)) if values.size > 1 else 0.0
        return _over(values - values.mean(), spread)
    if how == "minmax":
        return _over(values - values.min(), float(np.ptp(values)))
    divisor = {"mean": np.mean, "sum": np.sum, "max": np.max}[how]
    return _over(values, abs(float(divisor(values))))


def _of_what_is_left(name: str, values: Floats, how: str) -> Floats:
    """lamp or kl of one group. Equal scores stay equal: they count as going together."""
    if values.size and values.min() < 0:
        raise BadInput(f"{how} takes scores >= 0, group {name} has {values.min():.4g}: use zscore or isomorphic")
    if not values.any():
        return np.zeros_like(values)
    ordered = np.sort(values)
    above = np.append(np.cumsum(ordered[::-1])[::-1], 0.0)  # sum from each place of the order to its end
    if how == "lamp":
        return values / above[np.searchsorted(ordered, values, side="left")]
    left = above[np.searchsorted(ordered, values, side="right")] / above[0]
    return -np.log(np.maximum(left, LEAST))


def _over(values: Floats, divisor: float) -> Floats:
    return values / divisor if divisor > 0 else np.zeros_like(values)


def _ranked_by_kind(arrays: Mapping[str, Floats], tags: Mapping[str, str]) -> dict[str, Floats]:
    ranked: dict[str, Floats] = {}
    for tag in sorted({tags.get(name, "") for name in arrays}):
        names = [name for name in arrays if tags.get(name, "") == tag]
        pooled = np.sort(np.concatenate([arrays[name] for name in names]))
        for name in names:
            lower = np.searchsorted(pooled, arrays[name], side="left")
            ranked[name] = lower / max(pooled.size, 1)
    return {name: ranked[name] for name in arrays}
