"""How long masks of one llama block take (hidden 576, feed-forward 1536, 3.54 million weights): CPU seconds, as JSON.

Compared with what released pruning scripts do: a stable full sort of each output, a loop of topk over N:M groups, and
pooling all weights for a global cut. Scores are random. One thread; the fastest of several interleaved rounds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from prunus.core.budget import Budget
from prunus.core.score import Score
from prunus.select.within import keep_masks

SHAPES = {"q": (576, 576), "k": (192, 576), "v": (192, 576), "o": (576, 576)}
SHAPES |= {"gate": (1536, 576), "up": (1536, 576), "down": (576, 1536)}
ROUNDS = 7


def by_stable_sort(scores: Sequence[np.ndarray]) -> None:
    """50 % of each output by a stable full sort."""
    for values in map(torch.from_numpy, scores):
        order = torch.sort(values, dim=-1, stable=True).indices
        torch.ones_like(values, dtype=torch.bool).scatter_(1, order[:, : values.shape[1] // 2], False)


def by_topk_loop(scores: Sequence[np.ndarray]) -> None:
    """2:4 by one topk for each group of four columns."""
    for values in map(torch.from_numpy, scores):
        mask = torch.ones_like(values, dtype=torch.bool)
        for start in range(0, values.shape[1], 4):
            group = torch.topk(values[:, start : start + 4], 2, dim=1, largest=False).indices
            mask.scatter_(1, start + group, False)


def by_pooling(scores: Sequence[np.ndarray]) -> None:
    """50 % of all weights by one k-th value of the pooled scores."""
    pooled = torch.cat([torch.from_numpy(values).reshape(-1) for values in scores])
    cut = pooled.kthvalue(pooled.numel() // 2).values
    for values in map(torch.from_numpy, scores):
        _ = values >= cut


def ours(score: Score, budget: str, within: str) -> Callable[[], None]:
    """The same masks through `keep_masks`."""

    def run() -> None:
        for _ in keep_masks(score, Budget.parse(budget), within=within):
            pass

    return run


def main() -> None:
    """Interleave the ways, so that a busy moment hurts all of them alike."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    values = {name: rng.random(shape, dtype=np.float32) for name, shape in SHAPES.items()}
    score, scores = Score("weights", values), list(values.values())
    ways: dict[str, Callable[[], None]] = {
        "50 % of each output, stable sort": lambda: by_stable_sort(scores),
        "50 % of each output, prunus": ours(score, "50% weights", "output"),
        "2:4, loop of topk": lambda: by_topk_loop(scores),
        "2:4, prunus": ours(score, "2:4", "group"),
        "50 % of all, pooled k-th value": lambda: by_pooling(scores),
        "50 % of all, prunus (no pooled copy)": ours(score, "50% weights", "all"),
    }
    seconds = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, run in ways.items():
            start = time.process_time()
            run()
            seconds[name] = min(seconds[name], time.process_time() - start)
    weights = sum(v.size for v in scores)
    print(json.dumps({"weights": weights, "cpu_seconds": {k: round(s, 4) for k, s in seconds.items()}}, indent=1))


if __name__ == "__main__":
    main()
