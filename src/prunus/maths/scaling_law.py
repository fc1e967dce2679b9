"""Scaling law of sparse pre-training: the AVERAGE number of parameters over the run takes the place of the number (Jin et al. 2025).

loss = E + A / average^alpha + B / tokens^beta, and a run costs 6 * average * tokens FLOPs. So schedules of pruning can be compared
at equal compute before any is run, and a sparse run has a dense twin: a model of its average size, with the same loss.

Parameters are those of the matrices that are pruned (embeddings out). The fitted constants of the paper could not be verified: fit
your own runs with `fit_scaling_law`; `CHINCHILLA` (Hoffmann et al. 2022, dense models) serves as an example.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunus.core.errors import BadInput
from prunus.core.rng import uniform

Floats = NDArray[np.float64]
DELTA = 1e-3  # of the Huber loss of log losses
STARTS = 16  # starts of the grid that are followed to their end: those that fit best as they are


@dataclass(frozen=True)
class ScalingLaw:
    """`loss(N, D) = floor + a / N^alpha + b / D^beta`, in nats a token."""

    floor: float
    a: float
    alpha: float
    b: float
    beta: float

    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Predicted loss, float64 of the broadcast shape.

        Args:
            params: average number of parameters over the run.
            tokens: seen in it.
        """
        n, d = np.asarray(params, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
        if not ((n > 0).all() and (d > 0).all()):
            raise BadInput("a law needs parameters and tokens above 0")
        return np.asarray(self.floor + self.a / n**self.alpha + self.b / d**self.beta)


CHINCHILLA = ScalingLaw(1.69, 406.4, 0.34, 410.7, 0.28)


@dataclass(frozen=True)
class Journey:
    """One pruning schedule at a given compute.

    Attributes:
        params: of the dense start.
        final: that stay at the end.
        average: over the run; also the size of the dense model with the same predicted loss.
        tokens: that the compute pays for.
        flops: of training.
        loss: predicted.
    """

    params: float
    final: float
    average: float
    tokens: float
    flops: float
    loss: float


def cubic_sparsity(steps: int, final: float, *, begin: int, end: int, initial: float = 0.0, every: int = 1) -> Floats:
    """Share of weights that are zero after each step's pruning event: `initial`, then a cubic rise, then `final`: `[steps]`.

    Args:
        steps: of the whole run.
        final: sparsity from step `end` on.
        begin, end: first step of the rise and the one at which it is done. Equal ones prune in one shot.
        initial: sparsity before.
        every: steps between pruning events; the sparsity stays as it is between them.
    """
    if not 0 <= initial <= final < 1:
        raise BadInput(f"sparsity rises from 0 or more to less than 1, not from {initial} to {final}")
    if not 0 <= begin <= end <= steps or every < 1:
        raise BadInput(
            f"0 <= begin <= end <= steps and every >= 1, not begin={begin}, end={end}, steps={steps}, every={every}"
        )
    if end == steps and final > initial:
        warnings.warn(
            "this schedule ends with its last pruning: no step is left to recover, expect a worse loss", stacklevel=2
        )
    at = np.arange(steps)
    event = begin + (at - begin) // every * every
    left = 1 - (event - begin) / max(end - begin, 1)
    rising = final + (initial - final) * left**3
    return np.where(at < begin, initial, np.where(at >= end, final, rising))


def average_parameters(params: float, sparsity: ArrayLike) -> float:
    """Mean number of active parameters over the steps of a run.

    Args:
        params: of the dense start.
        sparsity: `[steps]`, after each step's pruning event, from any schedule.
    """
    found = np.asarray(sparsity, dtype=np.float64)
    if found.ndim != 1 or not found.size or not ((found >= 0) & (found <= 1)).all():
        raise BadInput("sparsity is one share in [0, 1] for each step")
    return float(params * (1 - found).mean())


def average_of_cubic(params: float, final: float, *, begin: float, end: float, initial: float = 0.0) -> float:
    """The same for a cubic rise that prunes at every instant.

    Args:
        params: of the dense start.
        final, initial: sparsity after and before.
        begin, end: of the rise, as shares of the steps.
    """
    rising = (1 - final) - (initial - final) / 4
    return params * (begin * (1 - initial) + (1 - end) * (1 - final) + (end - begin) * rising)


def by_compute(final: float, *, begin: float = 0.25, end: float = 0.75) -> tuple[float, float]:
    """(begin, end) as shares of STEPS of the cubic rise that begins and ends at these shares of the run's COMPUTE.

    Early steps are denser, so 25 % of the compute is spent before 25 % of the steps. The paper names compute.

    Args:
        final: sparsity at the end, from 0.
        begin, end: shares of the compute.
    """
    if not 0 <= begin <= end <= 1 or not 0 <= final < 1:
        raise BadInput(
            f"shares 0 <= begin <= end <= 1 and a sparsity in [0, 1) are needed, not {begin}, {end} and {final}"
        )
    rising, after = 1 - 0.75 * final, 1 - final  # mean density in the rise and behind it
    spent = end - begin * (1 - rising)  # compute up to the end, all but what the dense phase costs more
    average = after / (1 - begin * (1 - rising) - spent * (rising - after) / rising)
    return begin * average, average * spent / rising


def training_flops(params: float, sparsity: ArrayLike, tokens_per_step: float) -> float:
    """6 FLOPs for each active parameter and token; what a machine does that multiplies zeros is more."""
    return 6 * average_parameters(params, sparsity) * np.asarray(sparsity).size * tokens_per_step


def journey(law: ScalingLaw, params: float, sparsity: ArrayLike, *, flops: float) -> Journey:
    """What a schedule comes to when it is stretched to a compute.

    Args:
        law: fitted.
        params: of the dense start.
        sparsity: `[steps]`; its shape counts, not its length.
        flops: of training.
    """
    average = average_parameters(params, sparsity)
    tokens = flops / (6 * average)
    final = params * (1 - float(np.asarray(sparsity)[-1]))
    return Journey(params, final, average, tokens, flops, float(law.loss(average, tokens)))


def at_equal_compute(
    law: ScalingLaw, params: float, schedules: Mapping[str, ArrayLike], *, flops: float
) -> dict[str, Journey]:
    """Schedules of one dense start at one compute, the lowest predicted loss first."""
    found = {name: journey(law, params, sparsity, flops=flops) for name, sparsity in schedules.items()}
    return dict(sorted(found.items(), key=lambda item: item[1].loss))


def plan_pretraining(
    law: ScalingLaw, final: float, *, sparsity: float, flops: float, begin: float = 0.25, end: float = 0.75
) -> Journey:
    """The dense start and the tokens for a model of a given final size.

    Args:
        law: fitted.
        final: parameters wanted at the end.
        sparsity: at the end; the start has final / (1 - sparsity).
        flops: of training.
        begin, end: of the cubic rise, as shares of the compute.
    """
    first, last = by_compute(sparsity, begin=begin, end=end)
    params = final / (1 - sparsity)
    average = average_of_cubic(params, sparsity, begin=first, end=last)
    tokens = flops / (6 * average)
    return Journey(params, final, average, tokens, flops, float(law.loss(average, tokens)))


def fit_scaling_law(params: ArrayLike, tokens: ArrayLike, losses: ArrayLike) -> ScalingLaw:
    """The law of one's own runs: the Huber loss of log losses, from the best of a grid of starts.

    Args:
        params: `[n]`, average parameters of each run; five runs or more, of several sizes and lengths.
        tokens: `[n]`.
        losses: `[n]`, in nats, measured.
    """
    runs = _runs(params, tokens, losses)
    grid = itertools.product(
        np.arange(0, 30, 5.0),
        np.arange(0, 2.5, 0.5),
        np.arange(0, 30, 5.0),
        np.arange(0, 2.5, 0.5),
        np.arange(-1, 1.5, 0.5),
    )
    starts = np.array(list(grid))
    errors = np.array([_huber(_residual(start, *runs)) for start in starts])
    best = [_solved(starts[at], runs) for at in errors.argsort(kind="stable")[:STARTS]]
    return _law(min(best, key=lambda found: _huber(_residual(found, *runs))))


def predict_with_interval(
    params: ArrayLike,
    tokens: ArrayLike,
    losses: ArrayLike,
    *,
    at: tuple[float, float],
    resamples: int = 200,
    seed: int = 0,
) -> tuple[float, tuple[float, float]]:
    """Loss at (average parameters, tokens), with a 95 % interval by a bootstrap over the runs.

    Far from the runs, and above 80 % sparsity, the interval says too little: it knows of no other law.

    Args:
        params, tokens, losses: see `fit_scaling_law`.
        at: where.
        resamples: of the runs.
        seed: of the draws.
    """
    runs = _runs(params, tokens, losses)
    whole = fit_scaling_law(np.exp(runs[0]), np.exp(runs[1]), np.exp(runs[2]))
    start, size, found = _raw(whole), runs[0].size, list[float]()
    for number in range(resamples):
        ids = np.arange(number * size, (number + 1) * size)
        rows = np.minimum((uniform(seed, "scaling law", ids) * size).astype(np.int64), size - 1)
        found.append(float(_law(_solved(start, runs[:, rows])).loss(*at)))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(whole.loss(*at)), (float(low), float(high))


def _runs(params: ArrayLike, tokens: ArrayLike, losses: ArrayLike) -> Floats:
    """Logs of the three, `[3, n]`."""
    found = np.stack([np.asarray(side, dtype=np.float64) for side in (params, tokens, losses)])
    if found.ndim != 2 or found.shape[1] < len(astuple(CHINCHILLA)) or not (np.isfinite(found) & (found > 0)).all():
        raise BadInput(f"a law of five constants needs five runs or more, all numbers above 0; got {found.shape[1:]}")
    return np.log(found)


def _terms(x: Sequence[float] | Floats, n: Floats, d: Floats) -> tuple[Floats, Floats]:
    """(logs of the three terms `[3, n]`, log of their sum); x = (log A, alpha, log B, beta, log E)."""
    a, alpha, b, beta, floor = x
    terms = np.stack([a - alpha * n, b - beta * d, np.full_like(n, floor)])
    return terms, np.logaddexp.reduce(terms)


def _residual(x: Sequence[float] | Floats, n: Floats, d: Floats, loss: Floats) -> Floats:
    """Log of the prediction minus log of the loss."""
    return _terms(x, n, d)[1] - loss


def _slope(x: Sequence[float] | Floats, n: Floats, d: Floats, loss: Floats) -> Floats:
    """Derivatives of the residual `[n, 5]`: each term's share of the prediction."""
    terms, total = _terms(x, n, d)
    of_n, of_d, of_floor = np.exp(terms - total)
    return np.stack([of_n, -n * of_n, of_d, -d * of_d, of_floor], 1)


def _huber(residual: Floats) -> float:
    size = np.abs(residual)
    return float(np.where(size <= DELTA, size**2 / 2, DELTA * (size - DELTA / 2)).sum())


def _solved(start: Floats, runs: Floats) -> Floats:
    from scipy.optimize import least_squares

    tight = dict.fromkeys(("ftol", "xtol", "gtol"), 1e-12)
    robust: dict[str, Any] = {"loss": "huber", "f_scale": DELTA, "x_scale": "jac", "max_nfev": 300, **tight}
    solve: Any = least_squares  # its stubs take no function for jac
    return solve(_residual, start, jac=_slope, args=tuple(runs), **robust).x


def _raw(law: ScalingLaw) -> Floats:
    return np.array([np.log(law.a), law.alpha, np.log(law.b), law.beta, np.log(law.floor)])


def _law(x: Floats) -> ScalingLaw:
    a, alpha, b, beta, floor = (float(value) for value in x)
    return ScalingLaw(float(np.exp(floor)), float(np.exp(a)), alpha, float(np.exp(b)), beta)
