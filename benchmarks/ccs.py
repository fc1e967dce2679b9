"""Coverage-centric selection over a million scores: seconds and memory above the input, as one line of JSON.

    PYTHONPATH=src python benchmarks/ccs.py --rows 1000000 --keep 0.1

The bound is 1 s and 200 MB above the input. Memory is the peak of traced allocations while selecting (numpy traces its
buffers), so it does not depend on what was imported before; the time is the best of `--repeats` untraced runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tracemalloc

import numpy as np

from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.select.ccs import ccs


def scores(rows: int) -> GroupScore:
    """A heavy-tailed hard score with ties, int64 ids."""
    values = np.random.default_rng(0).gamma(2.0, size=rows).astype(np.float32)
    return GroupScore(np.round(values, 4), np.arange(rows, dtype=np.int64), "hard")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keep", type=float, default=0.1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    score, count, rng = scores(options.rows), int(options.keep * options.rows), Rng(0, "ccs")
    seconds = []
    for _ in range(options.repeats):
        start = time.perf_counter()
        kept = ccs(score, count, rng=rng)
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    ccs(score, count, rng=rng)
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    result = {
        "rows": options.rows,
        "kept": int(kept.size),
        "seconds": round(min(seconds), 3),
        "mb_above_input": round(peak, 1),
    }
    scale = max(options.rows / 1_000_000, 1.0)
    result["within_bound"] = min(seconds) <= scale and peak <= 200 * scale
    print(json.dumps(result))
    return 0 if result["within_bound"] else 1


if __name__ == "__main__":
    sys.exit(main())
