"""Time and memory to record, group and cut known models, one JSON line per figure: `python benchmarks/graph_speed.py [NAME ...]`.

224 px, batch 1, one thread; times are medians of five repeats after one warm-up, in seconds. Beside them, in the same
run, Torch-Pruning's dependency graph and its cut by half where that package is installed (the extra `bench`). Peak
memory is measured in fresh processes: of a bare forward pass, and of that with a plan and `apply(inplace=True)` behind it.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchvision

from prunus.graph.build import build
from prunus.graph.count import Counter
from prunus.graph.cut import cut

REPEATS = 5
GOALS = {"resnet50": 1.0, "densenet121": 2.0, "vit_b_16": 2.0, "swin_t": 4.0}
MEMORY = ("resnet50", "vit_b_16")
DETECTOR = "maskrcnn_resnet50_fpn"
LLAMA = "llama_7b"


def seconds(function: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median time of a call."""
    function()
    times: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def say(name: str, value: float, unit: str, goal: float | None = None) -> None:
    """One figure as JSON."""
    figure = {"benchmark": "graph_speed", "figure": name, "value": round(value, 5), "unit": unit, "goal": goal}
    print(json.dumps(figure), flush=True)


def made(name: str) -> torch.nn.Module:
    """A model of torchvision with random weights, always the same."""
    torch.manual_seed(0)
    more = {"weights_backbone": None} if name == DETECTOR else {}
    return torchvision.models.get_model(name, weights=None, **more).eval()


def classifier(name: str, goal: float) -> None:
    """Each step apart, all together, and the peer."""
    model, example = made(name), torch.randn(1, 3, 224, 224)
    graph = build(model, example)
    keep = {group.name: np.arange(max(1, group.size // 2)) for group in graph.groups}
    sizes = {group: len(ids) for group, ids in keep.items()}
    counter = Counter(graph)
    say(f"{name}: record and group", seconds(lambda: build(model, example)), "s")
    say(f"{name}: cut", seconds(lambda: cut(model, graph, keep)), "s")
    whole = seconds(lambda: cut(model, build(model, example), keep))
    say(f"{name}: record, group and cut", whole, "s", goal)
    say(f"{name}: count", seconds(lambda: counter.count(sizes)), "s", 0.01)
    say(f"{name}: MACs", counter.count().macs, "MAC")
    say(f"{name}: MACs with half of every group", counter.count(sizes).macs, "MAC")
    peer = torch_pruning(model, example)
    if peer is not None:
        say(f"{name}: record, group and cut, of Torch-Pruning's time", whole / peer, "ratio", 0.5)


def torch_pruning(model: torch.nn.Module, example: torch.Tensor) -> float | None:
    """Time of the peer for the same: its graph, and one cut by half of every channel; None where it is absent or fails."""
    import copy

    try:
        import torch_pruning as peer
    except ImportError:
        return None
    heads = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 1000]

    def once(twin: torch.nn.Module, left: list[torch.nn.Module]) -> float:
        start = time.perf_counter()
        importance = peer.importance.MagnitudeImportance(p=1)
        peer.pruner.MagnitudePruner(twin, example, importance, pruning_ratio=0.5, ignored_layers=left).step()
        return time.perf_counter() - start

    times: list[float] = []
    for _ in range(REPEATS + 1):
        memo: dict[int, Any] = {}
        twin = copy.deepcopy(model, memo)
        try:
            times.append(once(twin, [memo[id(m)] for m in heads]))
        except Exception as error:  # what the peer can't cut is not compared
            print(f"Torch-Pruning: {type(error).__name__}: {error}", file=sys.stderr)
            return None
    return statistics.median(times[1:])


def detector() -> None:
    """Record, group and cut against a bare forward pass."""
    model, images = made(DETECTOR), [torch.rand(3, 224, 224)]
    with torch.no_grad():
        bare = seconds(lambda: model(images), 3)

    def whole() -> None:
        graph = build(model, (images,))
        cut(model, graph, {group.name: np.arange(max(1, group.size // 2)) for group in graph.groups})

    took = seconds(whole, 3)
    say(f"{DETECTOR}: bare forward", bare, "s")
    say(f"{DETECTOR}: record, group and cut", took, "s", 1.3 * bare + 3)


def peak(name: str, what: str) -> float:
    """Peak memory in MiB of a fresh process."""
    done = subprocess.run([sys.executable, __file__, name, "--peak", what], capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


def memory(name: str) -> None:
    """Peak of plan and apply(inplace=True) against that of a bare forward pass."""
    bare, both = peak(name, "forward"), peak(name, "cut")
    say(f"{name}: peak memory of plan and apply(inplace=True), of a bare forward pass", both / bare, "ratio", 1.2)


def peak_of(name: str, what: str) -> None:
    """What a fresh process does before it tells its peak."""
    import prunus as px
    import prunus.flow.channels
    import prunus.prunables.model

    model, example = made(name), torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        model(example)
    if what == "cut":
        px.plan(model, "l1", "50% macs", example=example).apply(model, inplace=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def llama() -> None:
    """Groups and a plan of seven billion parameters that have no numbers, in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, LLAMA, "--peak", "meta"], capture_output=True, text=True, check=True
    )
    took, mib = (float(value) for value in done.stdout.split()[-2:])
    say(f"{LLAMA} on meta: groups and plan", took, "s", 5.0)
    say(f"{LLAMA} on meta: memory", mib / 1024, "GiB", 1.0)


def llama_on_meta() -> None:
    """Time, and memory beyond what the imports take."""
    from transformers import LlamaConfig, LlamaForCausalLM

    import prunus as px
    import prunus.flow.channels

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.device("meta"):
        model, tokens = LlamaForCausalLM(LlamaConfig()).eval(), torch.zeros(1, 32, dtype=torch.long)
    start = time.perf_counter()
    px.plan(model, "random", "50% params", example={"input_ids": tokens, "use_cache": False})
    took = time.perf_counter() - start
    print(took, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def main() -> None:
    """The models asked for, all by default."""
    names = (*GOALS, DETECTOR, LLAMA)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*names, []])
    parser.add_argument("--peak", choices=("forward", "cut", "meta"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.names or names:
        if args.peak == "meta":
            llama_on_meta()
        elif args.peak:
            peak_of(name, args.peak)
        elif name in GOALS:
            classifier(name, GOALS[name])
            if name in MEMORY:
                memory(name)
        else:
            detector() if name == DETECTOR else llama()


if __name__ == "__main__":
    main()
