"""Time to record, group and cut two ImageNet models, one JSON line per figure: `python benchmarks/graph_speed.py`.

224 px, batch 1, one thread; each figure is the median of five repeats after one warm-up, in seconds.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torchvision

from prunus.graph.build import build
from prunus.graph.count import Counter
from prunus.graph.cut import cut

REPEATS = 5
GOALS = {"resnet50": 2.0, "vit_b_16": 3.0}


def seconds(function: Callable[[], object]) -> float:
    """Median time of a call."""
    function()
    times: list[float] = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def say(name: str, value: float, unit: str, goal: float | None = None) -> None:
    """One figure as JSON."""
    print(
        json.dumps({"benchmark": "graph_speed", "figure": name, "value": round(value, 5), "unit": unit, "goal": goal})
    )


def main() -> None:
    """Both models."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    example = torch.randn(1, 3, 224, 224)
    for name, goal in GOALS.items():
        model = getattr(torchvision.models, name)(weights=None).eval()
        graph = build(model, example)
        keep = {group.name: np.arange(max(1, group.size // 2)) for group in graph.groups}
        sizes = {group: len(ids) for group, ids in keep.items()}
        counter = Counter(graph)
        say(f"{name}: record and group", seconds(lambda model=model: build(model, example)), "s")
        say(f"{name}: cut", seconds(lambda model=model, graph=graph, keep=keep: cut(model, graph, keep)), "s")

        def whole(model: torch.nn.Module = model, keep: dict[str, np.ndarray] = keep) -> None:
            cut(model, build(model, example), keep)

        say(f"{name}: record, group and cut", seconds(whole), "s", goal)
        say(f"{name}: count", seconds(lambda counter=counter, sizes=sizes: counter.count(sizes)), "s", 0.01)
        dense, small = counter.count(), counter.count(sizes)
        say(f"{name}: MACs", dense.macs, "MAC")
        say(f"{name}: MACs with half of every group", small.macs, "MAC")


if __name__ == "__main__":
    main()
