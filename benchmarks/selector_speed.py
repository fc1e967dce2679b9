"""Selectors beside the least that anyone would have to do: a ratio of processor seconds for each, in the same run.

    PYTHONPATH=src python benchmarks/selector_speed.py k_center facility_location clusters herding grad_match

k_center: plain numpy with a running minimum. facility_location: apricot's lazy greedy on the same similarity (extra
`bench`). clusters: bare faiss k-means, the assignment, and for semdedup the similarities inside each cluster. herding and
grad_match: the mean, or the solution, of all picks computed again at every step. Data: Gaussian blobs, seed 0.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable

import numpy as np
from interleaved import line

from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.maths import submodular
from prunus.maths.last_layer import Gradients
from prunus.maths.matching_pursuit import matching_pursuit
from prunus.rows.prototypes import prototypes
from prunus.select.herding import herding
from prunus.select.k_center import k_center
from prunus.select.semdedup import semdedup
from prunus.signals.rowset import Signals


def blobs(n: int, d: int, centres: int = 100) -> np.ndarray:
    """float32 `[n, d]`."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((n, d)).astype(np.float32)
    x += 3 * draw.standard_normal((centres, d)).astype(np.float32)[draw.integers(0, centres, n)]
    return x


def scored(x: np.ndarray) -> GroupScore:
    ids = np.arange(x.shape[0])
    return GroupScore(np.zeros(ids.size), ids, "hard", Signals(ids, embedding=x))


# ---- k-center --------------------------------------------------------------------------------------------------------


def running_minimum(x: np.ndarray, count: int, first: int) -> list[int]:
    squares, best, picked = np.einsum("nd,nd->n", x, x), np.full(x.shape[0], np.inf, dtype=np.float32), [first]
    for _ in range(count - 1):
        centre = picked[-1]
        np.minimum(best, squares - 2 * (x @ x[centre]) + squares[centre], out=best)
        picked.append(int(best.argmax()))
    return picked


def measure_k_center(n: int = 20_000, d: int = 512, m: int = 500) -> None:
    score, rng = scored(blobs(n, d)), Rng(0, "bench")
    x = np.asarray(score.signals.embedding)
    kept = k_center(score, m, rng=rng)
    same = float(np.mean(kept == running_minimum(x, m, int(kept[0]))))
    ways = {
        "k_center": lambda: k_center(score, m, rng=rng),
        "plain numpy": lambda: running_minimum(x, m, int(kept[0])),
    }
    line("k-center", ways, over="plain numpy", limit=1.0, rounds=3, n=n, d=d, m=m, same_picks=same)


# ---- facility location -----------------------------------------------------------------------------------------------


def measure_facility_location(n: int = 10_000, d: int = 512, m: int = 500) -> None:
    try:
        lazy_greedy = importlib.import_module("apricot").FacilityLocationSelection
    except ImportError:
        print(
            json.dumps({"figure": "facility location, similarity given", "skipped": "apricot-select is not installed"})
        )
        return
    x = blobs(n, d)
    x /= np.linalg.norm(x, axis=1)[:, None]
    given = np.clip(0.5 + 0.5 * (x @ x.T), 0, 1)
    wide = given.astype(np.float64)  # apricot would make this copy itself

    def lazy(similarity: np.ndarray, count: int) -> np.ndarray:
        return lazy_greedy(count, metric="precomputed", optimizer="lazy").fit(similarity).ranking

    lazy(wide[:200, :200], 20)  # numba compiles
    ours = submodular.facility_location(submodular.Matrix(given), m).order
    value = {
        "ours": given[:, ours].max(1).sum(dtype=np.float64),
        "apricot": given[:, lazy(wide, m)].max(1).sum(dtype=np.float64),
    }
    ways: dict[str, Callable[[], object]] = {
        "facility location": lambda: submodular.facility_location(submodular.Matrix(given), m),
        "apricot lazy": lambda: lazy(wide, m),
    }
    equal = round(float(value["ours"] / value["apricot"]), 9)
    facts = {"n": n, "m": m, "objective_ratio": equal}
    line("facility location, similarity given", ways, over="apricot lazy", limit=0.5, rounds=3, **facts)


# ---- prototypes and semdedup -----------------------------------------------------------------------------------------


def bare_clusters(x: np.ndarray, k: int, seed: int, *, inside: bool) -> None:
    """faiss as anyone would call it, and the largest similarity with an earlier row of the same cluster."""
    import faiss

    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    limits = {"min_points_per_centroid": 1, "max_points_per_centroid": x.shape[0]}
    trained = faiss.Kmeans(x.shape[1], k, niter=20, seed=seed, spherical=True, **limits)
    trained.train(unit)
    near, assigned = trained.index.search(unit, 1)
    best = np.zeros(x.shape[0], dtype=np.float32)
    for cluster in range(k if inside else 0):
        rows = np.flatnonzero(assigned[:, 0] == cluster)
        rows = rows[np.argsort(near[rows, 0], kind="stable")]
        if rows.size > 1:
            best[rows] = np.triu(unit[rows] @ unit[rows].T, 1).max(0)


def measure_clusters(n: int = 200_000, d: int = 256) -> None:
    import faiss

    faiss.omp_set_num_threads(1)
    score = scored(blobs(n, d, 1000))
    x, rng = np.asarray(score.signals.embedding), Rng(0, "bench")
    few, many = n // 1000, round(n**0.5)
    ways = {
        "prototypes": lambda: prototypes(score.signals, rng=rng),
        "bare faiss": lambda: bare_clusters(x, many, rng.integer(), inside=False),
    }
    line("prototypes", ways, over="bare faiss", limit=1.2, rounds=1, n=n, d=d, k=many)
    ways = {
        "semdedup": lambda: semdedup(score, n // 2, rng=rng),
        "bare faiss": lambda: bare_clusters(x, few, rng.integer(), inside=True),
    }
    line("semdedup", ways, over="bare faiss", limit=1.2, rounds=1, n=n, d=d, k=few)


# ---- herding and GradMatch -------------------------------------------------------------------------------------------


def herding_again(x: np.ndarray, count: int) -> list[int]:
    """At every step the mean of the picks with every candidate in turn, and its distance from the mean of all."""
    mean, picked, left = x.mean(0), [], np.ones(x.shape[0], dtype=bool)
    for _ in range(count):
        total = x[picked].sum(0) if picked else np.zeros_like(mean)
        away = np.linalg.norm((total + x) / (len(picked) + 1) - mean, axis=1)
        picked.append(int(np.where(left, away, np.inf).argmin()))
        left[picked[-1]] = False
    return picked


def measure_herding(n: int = 5_000, d: int = 512, m: int = 500) -> None:
    score = scored(blobs(n, d))
    x = np.asarray(score.signals.embedding)
    same = float(np.mean(herding(score, m) == herding_again(x.astype(np.float64), m)))
    ways = {"herding": lambda: herding(score, m), "mean at every step": lambda: herding_again(x, m)}
    line("herding", ways, over="mean at every step", limit=0.1, n=n, d=d, m=m, same_picks=same)


def pursuit_again(gradients: np.ndarray, target: np.ndarray, count: int, ridge: float) -> list[int]:
    """Matching pursuit with a fresh ridge solution at every step, on gradients written out."""
    picked, left, residual = [], np.ones(gradients.shape[0], dtype=bool), target
    for _ in range(count):
        picked.append(int(np.where(left, gradients @ residual, -np.inf).argmax()))
        left[picked[-1]] = False
        chosen = gradients[picked]
        fit = np.linalg.solve(chosen @ chosen.T + ridge * np.eye(len(picked)), chosen @ target)
        residual = target - fit @ chosen
    return picked


def measure_grad_match(n: int = 5_000, d: int = 64, c: int = 10, m: int = 500) -> None:
    draw = np.random.default_rng(0)
    probs, labels = draw.dirichlet(np.ones(c), n), draw.integers(0, c, n)
    found = Gradients.of(probs, labels, blobs(n, d))
    whole = (found.errors[:, :, None] * found.inputs[:, None]).reshape(n, -1)
    target = found.mean()
    again = pursuit_again(whole, target.ravel(), m, 1.0)
    same = float(np.mean(matching_pursuit(found, target, m, 1.0)[0] == again))
    ways = {
        "grad_match": lambda: matching_pursuit(found, target, m, 1.0),
        "solved at every step": lambda: pursuit_again(whole, target.ravel(), m, 1.0),
    }
    line("GradMatch", ways, over="solved at every step", limit=0.1, rounds=3, n=n, d=d, c=c, m=m, same_picks=same)


FIGURES = {
    "k_center": measure_k_center,
    "facility_location": measure_facility_location,
    "clusters": measure_clusters,
    "herding": measure_herding,
    "grad_match": measure_grad_match,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", nargs="*", choices=[*FIGURES, []], default=[])
    options = parser.parse_args()
    for name in options.figures or FIGURES:
        FIGURES[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
