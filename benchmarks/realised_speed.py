"""How much of a cut in MACs becomes time: (t_dense / t_pruned) / (MAC_dense / MAC_pruned), one JSON line per figure.

    python benchmarks/realised_speed.py            # four models at 50 % of the MACs, batch 1 and 16
    python benchmarks/realised_speed.py --widths   # the same at batch 1 with kept widths that are multiples of 1, 2, 4, 8, 16

Random weights, 224 px, L1 with equal shares in every group (`scope="group"`), one thread. Dense and pruned take turns in alternating
order and each figure is a ratio of medians. Seconds are those of the processor, so that what else runs on the machine counts less.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Mapping

import torch
import torchvision
from torch import nn

import prunus as px
from prunus.graph.cut import cut
from prunus.prunables.model import ModelPrunable

MODELS = ("resnet50", "mobilenet_v3_large", "vit_b_16", "swin_t")
WIDTHS = (1, 2, 4, 8, 16)
GOAL, MAX_ROUNDS, SECONDS = 0.8, 40, 60.0


def turns(models: Mapping[str, nn.Module], x: torch.Tensor) -> dict[str, float]:
    """Median processor seconds of each model, in turns, for about a minute and for 7 to 40 rounds."""
    times: dict[str, list[float]] = {name: [] for name in models}
    names, start = list(models), time.perf_counter()
    with torch.inference_mode():
        for number in range(MAX_ROUNDS + 2):
            for name in names if number % 2 else names[::-1]:
                before = time.process_time()
                models[name](x)
                times[name].append(time.process_time() - before)
            if number >= 8 and time.perf_counter() - start > SECONDS:
                break
    return {name: statistics.median(found[2:]) for name, found in times.items()} | {"rounds": len(times[names[0]]) - 2}


def measured(name: str, batch: int, widths: tuple[int | None, ...]) -> None:
    """One model: dense beside the cuts with these multiples; None is the default of budgets."""
    torch.manual_seed(0)
    dense = getattr(torchvision.models, name)(weights=None).eval()
    prunable = ModelPrunable(dense, torch.randn(1, 3, 224, 224))
    models, macs = {"dense": dense}, {"dense": prunable.count()["macs"]}
    for multiple in widths:
        plan = px.plan(prunable, "l1", "50% macs", scope="group", round_to=multiple)
        keep = {group: kept.index() for group, kept in plan.groups.items()}
        models[str(multiple)] = cut(dense, prunable.graph, keep).eval()
        macs[str(multiple)] = plan.planned["macs"]
    seconds = turns(models, torch.randn(batch, 3, 224, 224))
    for multiple in widths:
        ratio, share = seconds["dense"] / seconds[str(multiple)], macs[str(multiple)] / macs["dense"]
        facts = {
            "benchmark": "realised_speed", "model": name, "batch": batch, "round_to": multiple, "macs_share": round(share, 4),
            "dense_ms": round(1000 * seconds["dense"], 2), "pruned_ms": round(1000 * seconds[str(multiple)], 2),
            "time_ratio": round(ratio, 3), "realised": round(ratio * share, 3), "goal": GOAL, "rounds": seconds["rounds"],
        }  # fmt: skip
        print(json.dumps(facts), flush=True)


def main() -> None:
    """All models."""
    torch.set_num_threads(1)
    by_width = "--widths" in sys.argv
    for name in MODELS:
        for batch in (1,) if by_width else (1, 16):
            measured(name, batch, WIDTHS if by_width else (None,))


if __name__ == "__main__":
    main()
