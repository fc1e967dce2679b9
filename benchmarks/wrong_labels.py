"""How well neighbours count wrong labels, and whether the adviser knows when they can't.

    PYTHONPATH=src python benchmarks/wrong_labels.py

scikit-learn's digits, wine and breast cancer, and digits through random projections to few features (where classes overlap), with 0
to 40 % of the labels wrong. Prints a line of JSON for each: the true share, the estimate (null where it is not believed), the bound,
and by how much neighbours agree oftener than wrong labels alone explain.
"""

from __future__ import annotations

import json
import sys

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

from prunus.advise.wrong_labels import wrong_labels
from prunus.core.rng import Rng
from prunus.prunables.label_noise import symmetric

SHARES = (0.0, 0.1, 0.2, 0.4)
PROJECTED = (10, 6, 4, 2)


def data() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name -> features and labels."""
    found = {}
    for name, load in (("digits", load_digits), ("wine", load_wine), ("breast cancer", load_breast_cancer)):
        bunch = load()
        found[name] = (np.asarray(bunch.data, np.float32), np.asarray(bunch.target, np.int64))
    x, y = found["digits"]
    draw = np.random.default_rng(0)
    weak = {
        f"digits, {d} random features": (x @ draw.normal(size=(x.shape[1], d)).astype(np.float32), y) for d in PROJECTED
    }
    return found | weak


def main() -> None:
    """Print all lines."""
    for name, (x, y) in data().items():
        ids = np.arange(y.size)
        for share in SHARES:
            noisy = symmetric(y, ids, share, Rng(0, "benchmark")) if share else y
            found = wrong_labels(x, noisy, ids)
            assert found is not None
            told = {"estimate": found.share, "at_most": found.at_most, "agreement": found.agreement}
            told = {key: value if value is None else round(value, 4) for key, value in told.items()}
            sys.stdout.write(json.dumps({"data": name, "wrong": round(float((noisy != y).mean()), 4), **told}) + "\n")


if __name__ == "__main__":
    main()
