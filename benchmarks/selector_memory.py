"""Selectors at their largest: the peak memory of a process that makes the embedding and selects, as one line of JSON each.

    PYTHONPATH=src python benchmarks/selector_memory.py k_center facility_location

Every figure runs in a process of its own. The peak is that of the whole process: libraries, embedding, selection.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from selector_speed import blobs, scored

from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.select.d2 import d2
from prunus.select.facility_location import facility_location
from prunus.select.k_center import k_center
from prunus.select.log_determinant import log_determinant
from prunus.select.semdedup import semdedup

Select = Callable[[GroupScore, int], np.ndarray]
FIGURES: dict[str, tuple[int, int, int, float, Select]] = {
    "k_center": (200_000, 128, 2_000, 2.0, lambda score, m: k_center(score, m, rng=Rng(0, "bench"))),
    "facility_location": (100_000, 128, 10_000, 4.0, lambda score, m: facility_location(score, m, neighbours=16)),
    "log_determinant": (200_000, 128, 2_000, 4.0, lambda score, m: log_determinant(score, m)),
    "d2": (100_000, 128, 50_000, 4.0, lambda score, m: d2(score, m)),
    "semdedup": (200_000, 256, 100_000, 4.0, lambda score, m: semdedup(score, m, rng=Rng(0, "bench"))),
}


def figure(name: str) -> None:
    """Select once in this process."""
    n, d, m, limit, select = FIGURES[name]
    score = scored(blobs(n, d, 1000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    kept = select(score, m)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row = {"figure": f"{name}, memory", "n": n, "d": d, "m": int(kept.size), "peak_gb": round(peak / 2**20, 3)}
    row |= {
        "limit_gb": limit,
        "before_gb": round(before / 2**20, 3),
        "cpu_seconds": round(time.process_time() - start, 1),
    }
    print(json.dumps(row), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", nargs="*", help=f"of {', '.join(FIGURES)}; default all")
    parser.add_argument("--here", default="", help="one figure, in this process")
    options = parser.parse_args()
    if options.here:
        figure(options.here)
        return 0
    for name in options.figures or FIGURES:
        subprocess.run([sys.executable, __file__, "--here", name], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
