"""Teacher-student perceptron: what error to expect after keeping the hard, the easy or random examples (Sorscher et al. 2022).

Inputs are N(0, I_N), labels the sign of a teacher; an example is hard when its teacher margin |z| is small. The student
is the max-margin perceptron of what was kept. With alpha kept examples per parameter, a kept share f, overlap R of
student and teacher, margin kappa, and the kept range low < |z| < high, the saddle point (own derivation, by replicas) is

    1 - R^2 = (2 alpha / f) int phi(t) (kappa - t)^2 [H((low - R t) / s) - H((high - R t) / s)] dt
    R       = (2 alpha / f) int phi(t) (kappa - t) [phi((low - R t) / s) - phi((high - R t) / s)] / s dt

over t < kappa, with s = sqrt(1 - R^2), phi the normal density and H(u) = P(N(0, 1) > u). The error is arccos(R) / pi.
The probe is perfect here; `simulate` takes one at an angle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root, root_scalar
from scipy.special import erfc, ndtri

from prunus.core.errors import BadInput

Floats = NDArray[np.float64]
Keep = Literal["hard", "easy", "random"]
NODES, WEIGHTS = np.polynomial.legendre.leggauss(400)
FARTHEST = -12.0
CLOSE = 1e-9
MUCH, LIMITS = 4.0, (0.5, 0.3, 0.18, 0.13)
LARGEST_MARGIN = 5.0  # above the least one kept, times that of a few random examples, which is 1 / sqrt(alpha)
FEWEST, MOST = 0.5, 200.0  # examples per parameter between which a curve is matched


@dataclass(frozen=True)
class Learned:
    """What the student has learned.

    Attributes:
        overlap: cosine between student and teacher, R in (0, 1).
        margin: kappa, the least distance of a kept example from the student's boundary.
        error: share of new examples that student and teacher label differently.
    """

    overlap: float
    margin: float
    error: float


def learned(alpha: float, kept: float = 1.0, keep: Keep = "random") -> Learned:
    """The max-margin student of infinitely many dimensions.

    Args:
        alpha: kept examples per parameter, above 0.
        kept: share of all examples that was kept, in (0, 1]; does not matter where they are random.
        keep: which stayed.

    Raises:
        BadInput: outside these ranges, or so far out that the equations have no solution within 1e-9.
    """
    low, high, share = _range(alpha, kept, keep)
    best: tuple[float, float, float] | None = None
    for overlap, margin in _starts(alpha, share, low):
        found = root(_gaps, (math.atanh(overlap), math.log(margin)), args=(alpha / share, low, high), tol=1e-13)
        gap = float(np.abs(found.fun).max())
        # Far out lies a second root, a student that has learned nothing at a margin without bounds.
        real = found.x[0] > 0 and found.x[1] < math.log(low + LARGEST_MARGIN / math.sqrt(alpha))
        if math.isfinite(gap) and real and (best is None or gap < best[0]):
            best = gap, math.tanh(found.x[0]), math.exp(found.x[1])
        if best is not None and best[0] < CLOSE:
            return Learned(best[1], best[2], math.acos(best[1]) / math.pi)
    raise BadInput(f"no solution of the saddle point for alpha {alpha}, kept {kept}, keep {keep!r}: too far out")


def _starts(alpha: float, share: float, low: float) -> list[tuple[float, float]]:
    """Where to look for overlap and margin: with much data near their limits, error ~ 1 / data and margin ~ low + 1 / data."""
    data = alpha if low else alpha / share
    limits = [(math.cos(math.pi * error / data), low + 2 * error / data) for error in LIMITS if data > MUCH]
    grid = [(o, m) for o in (0.5, 0.8, 0.95, 0.2, 0.99, 0.999) for m in (0.3, 1.0, 0.1, 0.03, 3.0)]
    return limits + grid


def expected_errors(total: float, kept: Sequence[float], keep: Keep = "random") -> Floats:
    """Expected error against what is kept: of the hard, the easy or random examples.

    Args:
        total: examples per parameter before anything goes, above 0.
        kept: shares that are kept, each in (0, 1].
        keep: which end stays.

    Returns:
        float64 `[shares]`, the share of new examples that get a wrong label, in (0, 0.5).

    Raises:
        BadInput: as `learned`.
    """
    return np.array([learned(total * share, share, keep).error for share in kept])


def examples_per_parameter(kept: Sequence[float], errors: Sequence[float]) -> float:
    """The `total` at which the theory's curve of random rows falls as steeply as a measured one does.

    The only number of the theory that a measurement must give. From the ratio of the errors at the smallest and the largest share.

    Args:
        kept: shares, two or more different ones in (0, 1].
        errors: measured with random rows, above 0, in the same order.

    Returns:
        Between FEWEST and MOST, which are also the answers for curves that are flatter or steeper than any of the theory.
    """
    if len(kept) != len(errors) or len(set(kept)) < 2 or not all(error > 0 for error in errors):
        raise BadInput(
            f"two shares or more and their errors above 0 tell how steep a curve is, not {kept} and {errors}"
        )
    few, many = min(zip(kept, errors)), max(zip(kept, errors))
    steep = few[1] / many[1]

    def above(logarithm: float) -> float:
        low, high = expected_errors(math.exp(logarithm), (few[0], many[0]))
        return float(low / high) - steep

    ends = math.log(FEWEST), math.log(MOST)
    if above(ends[0]) >= 0:
        return FEWEST
    return MOST if above(ends[1]) <= 0 else math.exp(float(root_scalar(above, bracket=ends, xtol=1e-4).root))


def better_end(total: float, kept: float) -> Literal["hard", "easy"]:
    """Which end to keep of `total` examples per parameter: easy while data are scarce, hard once they abound."""
    hard, easy = (learned(total * kept, kept, end).error for end in ("hard", "easy"))
    return "hard" if hard < easy else "easy"


def simulate(
    alpha: float, kept: float, keep: Keep, *, dimensions: int = 100, angle: float = 0.0, rng: np.random.Generator
) -> Learned:
    """One student of finite dimension, trained on what a probe at an angle to the teacher keeps.

    Args:
        alpha: kept examples per parameter.
        kept: share that is kept.
        keep: which end of the probe's margin.
        dimensions: N.
        angle: between probe and teacher, in radians.
        rng: of the inputs.
    """
    _range(alpha, kept, keep)
    count = round(alpha * dimensions)
    inputs = rng.standard_normal((math.ceil(count / kept), dimensions))
    teacher, probe = np.zeros(dimensions), np.zeros(dimensions)
    teacher[0], probe[:2] = 1.0, (math.cos(angle), math.sin(angle))
    margins = np.abs(inputs @ probe)
    ranking = {"hard": margins, "easy": -margins, "random": np.zeros_like(margins)}[keep]
    chosen = inputs[np.argsort(ranking, kind="stable")[:count]]
    student, margin = _max_margin(chosen * np.sign(chosen @ teacher)[:, None])
    overlap = float(student @ teacher)
    return Learned(overlap, margin, math.acos(overlap) / math.pi)


def _range(alpha: float, kept: float, keep: Keep) -> tuple[float, float, float]:
    """The kept range of teacher margins, and the share in it."""
    if not (alpha > 0 and math.isfinite(alpha)) or not 0 < kept <= 1:
        raise BadInput(f"alpha must be above 0 and kept in (0, 1], not {alpha} and {kept}")
    if keep not in ("hard", "easy", "random"):
        raise BadInput(f"keep is hard, easy or random, not {keep!r}")
    if keep == "random" or kept == 1:
        return 0.0, math.inf, 1.0
    if keep == "hard":
        return 0.0, float(ndtri((1 + kept) / 2)), kept
    return float(-ndtri(kept / 2)), math.inf, kept


def _gaps(unknown: Floats, rate: float, low: float, high: float) -> Floats:
    """Left minus right side of both equations; unknown = (artanh R, log kappa)."""
    overlap, margin = math.tanh(unknown[0]), math.exp(min(unknown[1], 20.0))
    spread = 1 / math.cosh(min(abs(unknown[0]), 300.0))
    half = (margin - FARTHEST) / 2
    t = FARTHEST + half * (NODES + 1)
    mass = 2 * rate * half * WEIGHTS * _density(t) * (margin - t)
    below, above = (low - overlap * t) / spread, (high - overlap * t) / spread
    squared = float(mass * (margin - t) @ (_tail(below) - _tail(above)))
    linear = float(mass @ (_density(below) - _density(above))) / spread
    return np.array([spread**2 - squared, overlap - linear])


def _density(u: Floats) -> Floats:
    return np.exp(-u * u / 2) / math.sqrt(2 * math.pi)


def _tail(u: Floats) -> Floats:
    return np.asarray(erfc(u / math.sqrt(2)) / 2, dtype=np.float64)


def _max_margin(signed: Floats) -> tuple[Floats, float]:
    """The direction of largest least margin over rows `[m, N]` that a plane through 0 separates, and that margin.

    Dual of the hard margin: min |v^T signed| over the simplex v, solved as non-negative least squares.
    """
    from scipy.optimize import nnls

    system: Any = np.vstack([signed.T, np.ones(signed.shape[0])])
    weights, _ = nnls(system, np.r_[np.zeros(signed.shape[1]), 1.0], maxiter=50 * signed.shape[0])
    direction = weights @ signed
    direction /= np.linalg.norm(direction)
    return direction, float((signed @ direction).min())
