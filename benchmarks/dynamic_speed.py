"""What rows that change every epoch cost, at a million rows: the plan of an epoch, one batch of 64, and the state.

    PYTHONPATH=src python benchmarks/dynamic_speed.py

CPU seconds of this process, the best of the rounds, one thread. `plan`: the dynamic's plan and the order in which the
sampler hands it out. `batch`: 64 positions from the sampler, and `sampler.loss` of a given tensor of losses (report,
weights, mean). `state`: bytes of the arrays of `sampler.state_dict()`. Prints one line of JSON for each method.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch

from prunus.core.rng import uniform
from prunus.rows.infobatch import InfoBatch
from prunus.rows.rs2 import RS2
from prunus.rows.sampler import Sampler
from prunus.rows.seta import SeTa

LIMITS = {"batch_microseconds": 80, "plan_seconds": 0.2, "state_megabytes": 25}
METHODS: dict[str, Callable[[np.ndarray], Any]] = {
    "rs2, norepl": lambda ids: RS2(ids, fraction=0.3),
    "rs2, repl": lambda ids: RS2(ids, fraction=0.3, replace=True),
    "infobatch": InfoBatch,
    "infobatch, annealed": lambda ids: InfoBatch(ids, epochs=1),
    "seta": SeTa,
    "seta, quantile": lambda ids: SeTa(ids, grouping="quantile"),
}


def arrays(state: Any) -> int:
    """Bytes of all arrays in a nested dict."""
    if isinstance(state, Mapping):
        return sum(arrays(part) for part in state.values())
    return state.nbytes if isinstance(state, np.ndarray) else 0


def measured(make: Callable[[np.ndarray], Any], rows: int, rounds: int, batches: int) -> dict[str, float]:
    ids = np.arange(rows)
    losses = (-np.log1p(-uniform(0, "losses", ids))).astype(np.float32)
    sampler = Sampler(make(ids), ids)
    sampler.dynamic.seen(ids, losses)
    plans, steps = [], []
    for t in range(1, rounds + 1):
        start = time.process_time()
        sampler.set_epoch(t)
        positions = iter(sampler)
        plans.append(time.process_time() - start)
        given = [torch.from_numpy(losses[ids[64 * b : 64 * b + 64]]) for b in range(batches)]
        start = time.process_time()
        for batch in given:
            sampler.loss(torch.tensor(list(islice(positions, 64))), batch)
        steps.append((time.process_time() - start) / batches)
    found = {"plan_seconds": min(plans), "batch_microseconds": min(steps) * 1e6}
    return found | {"state_megabytes": arrays(sampler.state_dict()) / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, make in METHODS.items():
        found = measured(make, options.rows, options.rounds, options.batches)
        line = {"method": name, "rows": options.rows, **{key: round(value, 4) for key, value in found.items()}}
        print(
            json.dumps(line | {"limits": LIMITS, "within": all(found[key] <= LIMITS[key] for key in LIMITS)}),
            flush=True,
        )


if __name__ == "__main__":
    main()
