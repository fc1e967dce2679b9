"""Which models can be pruned: record, group, prove, cut, use and save each one, a JSON line per model.

`python benchmarks/coverage.py` runs what the results file does not have yet, each model in a process of its own with a
limit of time and memory, two at a time. `--page docs/results/coverage.md` writes the table from the results alone.
A model passes if it has groups, the cut at random channels computes what the masked dense model computes (1e-4 of the
largest output in float32, 1e-9 in float64), the cut runs forward and backward, can be copied, saved and loaded, and more
than half of its parameters are prunable. Weights are random, with nothing left at zero.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import coverage_models
import numpy as np
import torch
from coverage_page import page
from torch import Tensor, nn

import prunus as px
from prunus.core.budget import Budget
from prunus.core.plan import Kept, Plan
from prunus.graph.build import Graph, build
from prunus.graph.cut import cut
from prunus.graph.prove import prove
from prunus.graph.record import run, tensors_in
from prunus.prunables.model import ModelPrunable, prunable_share
from prunus.train.copies import copied

RESULTS = Path("runs/coverage.jsonl")
SINGLE, DOUBLE = 1e-4, 1e-9
ENOUGH = 0.5  # share of the parameters that must be prunable
WAIT = 20  # times the processor time that is waited for
GIGABYTES = 9  # address space of one model's process


def nudge(model: nn.Module) -> None:
    """Nothing at zero: a layer scale of 1e-6 or a zero-initialised norm would hide a wrong cut."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() < 2 or float(parameter.abs().max()) < 1e-3:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter)


def choose(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    """Between 30 and 90 % of every group, at random."""
    rng = np.random.default_rng(seed)
    counts = {group.name: max(1, int(group.size * rng.uniform(0.3, 0.9))) for group in graph.groups}
    return {g.name: np.sort(rng.choice(g.size, counts[g.name], replace=False)) for g in graph.groups}


def frozen(graph: Graph) -> tuple[str, float]:
    """What keeps most of the parameters that cannot be pruned, and its share of all."""
    free = {slot.parameter for group in graph.groups for slot in group.slots}
    lost: Counter[str] = Counter()
    total = 0
    for name, canonical in graph.parameters.items():
        size = int(np.prod(graph.shapes[name]))
        total += size if name == canonical else 0
        if name == canonical and name not in free:
            reasons = [graph.frozen.get((name, axis), "") for axis in range(len(graph.shapes[name]))]
            lost[next((one for one in reasons if one and "declared" not in one), reasons[0] if reasons else "")] += size
    reason, size = lost.most_common(1)[0] if lost else ("", 0)
    return reason, size / max(total, 1)


def outputs(model: nn.Module, example: Any) -> list[Tensor]:
    """Floating-point outputs of a call."""
    return [out for out in tensors_in(run(model, example)) if out.is_floating_point()]


def distance(model: nn.Module, graph: Graph, example: Any, small: nn.Module, keep: dict[str, np.ndarray]) -> float:
    """Relative difference of the cut model and the masked dense model."""
    return prove(model, graph, keep, example, small=small)


def alike(some: list[Tensor], others: list[Tensor], bound: float = SINGLE) -> bool:
    """Whether outputs agree up to rounding, relative to the largest of each."""
    for a, b in zip(some, others):
        scale = float(a.detach().abs().max()) if a.numel() else 1.0
        if a.shape != b.shape or not torch.allclose(a, b, rtol=0, atol=bound * max(scale, 1e-12), equal_nan=True):
            return False
    return True


def use(model: nn.Module, small: nn.Module, example: Any) -> str:
    """Forward, backward and deepcopy of the cut model; what went wrong, or an empty text."""
    with torch.no_grad():
        whole = outputs(model, example)
    dense = [tuple(out.shape) for out in whole]
    found = outputs(small, example)
    if [len(out.shape) for out in found] != [len(shape) for shape in dense]:
        return f"forward: {[tuple(out.shape) for out in found]} instead of {dense}"
    if alike(whole, found, 1e-6):
        return "the outputs do not show what was cut, so the proof says nothing"
    sum(out.square().mean() for out in found if out.requires_grad).backward()
    if not any(parameter.grad is not None for parameter in small.parameters()):
        return "backward: no gradient"
    with torch.no_grad():
        again = outputs(copied(small), example)  # a deepcopy, also where the model keeps what it has computed
    return "" if alike(found, again) else "deepcopy computes something else"


def stored(model: nn.Module, graph: Graph, small: nn.Module, keep: dict[str, np.ndarray], example: Any) -> str:
    """Save and load; what went wrong, or an empty text."""
    prunable = ModelPrunable(model, example)
    prunable.__dict__["graph"] = graph
    sizes = {group.name: group.size for group in graph.groups}
    kept = {name: Kept.of_ids(ids, sizes[name]) for name, ids in keep.items()}
    asked = Budget.parse(f"{sum(len(ids) for ids in keep.values())} channels")
    plan = Plan("channels", kept, asked, provenance={"example": prunable.describe()})
    with tempfile.TemporaryDirectory() as folder:
        again = px.load(px.save(small, plan, folder), like=model, example=example)
    before, after = small.state_dict(), again.state_dict()
    equal = list(before) == list(after) and all(torch.equal(before[key], after[key]) for key in before)
    with torch.no_grad():
        same = alike(outputs(small, example), outputs(again, example))
    return "" if equal and same else "the loaded model is not the saved one"


def told(error: Exception) -> str:
    """What failed, and in which line."""
    line = str(error).splitlines()[0][:200] if str(error) else ""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {line} ({Path(place.filename).name}:{place.lineno})"


def tried(library: str, name: str, full: bool) -> dict[str, Any]:
    """The result of one model."""
    model, example = coverage_models.make(library, name)
    params = sum(parameter.numel() for parameter in model.parameters())
    if params > coverage_models.GIANT:
        return {"status": "skipped", "reason": f"giant: {params / 1e6:.0f} million parameters", "params": params}
    nudge(model)
    start = time.process_time()
    graph = build(model, example)
    seconds = time.process_time() - start
    share = prunable_share(graph)
    reason, held = frozen(graph)
    facts: dict[str, Any] = {
        "params": params,
        "share": share,
        "groups": len(graph.groups),
        "seconds": round(seconds, 2),
    }
    facts |= {"frozen_by": reason, "frozen_by_share": held, "recorded": "shapes" if graph.fake else "data"}
    facts["inputs"] = [list(one.shape) for one in tensors_in(example)]
    if not graph.groups:
        return facts | {"status": "fail", "step": "group", "reason": reason}
    keep = choose(graph, 0)
    step = "cut"
    try:
        small = cut(model, graph, keep)
        step = "prove"
        facts["difference"] = distance(model, graph, example, small, keep)
        if not facts["difference"] < SINGLE:  # rounding in float32, or a wrong cut: float64 tells
            precise, wide = copy.deepcopy(model).double(), coverage_models.double(example)
            facts |= {"float64": distance(precise, graph, wide, cut(precise, graph, keep), keep)}
            if not facts["float64"] < DOUBLE:
                return facts | {"status": "fail", "step": step, "reason": f"differs by {facts['float64']:.1e}"}
        step = "use"
        wrong = use(model, small, example)
        step = "save" if not wrong else step
        wrong = wrong or (stored(model, graph, small, keep, example) if full else "")
    except Exception as error:  # whatever fails is the result: the run goes on to the next model
        return facts | {"status": "fail", "step": step, "reason": told(error)}
    if wrong:
        return facts | {"status": "fail", "step": step, "reason": wrong}
    if share <= ENOUGH:
        return facts | {"status": "fail", "step": "share", "reason": reason}
    return facts | {"status": "pass", "reason": ""}


def child(connection: Any, library: str, name: str, limit: int, full: bool) -> None:
    """Body of a model's own process."""
    resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES << 30, GIGABYTES << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))  # processor time: a busy machine fails nobody
    torch.set_num_threads(1)
    try:
        found = tried(library, name, full)
    except Exception as error:  # as in `tried`: a model that can't be built is a result
        found = {"status": "fail", "step": "build", "reason": told(error)}
    connection.send_bytes(json.dumps(found).encode())


def attempt(job: tuple[str, str], limit: int, full: bool) -> dict[str, Any]:
    """Run one model in a forked process; a crash or the time limit is its result."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    process = fork.Process(target=child, args=(theirs, *job, limit, full), daemon=True)
    process.start()
    theirs.close()
    found: dict[str, Any] = {"status": "fail", "step": "time", "reason": f"no result in {limit} s"}
    try:
        if ours.poll(WAIT * limit):
            found = json.loads(ours.recv_bytes())
    except EOFError:
        process.join(5)
        code = process.exitcode or 0
        if code != -signal.SIGXCPU:
            found |= {"step": "crash", "reason": f"the process ended with code {code}"}
    if process.is_alive():
        process.kill()
    process.join()
    return {"library": job[0], "model": job[1], **found}


def read(path: Path) -> list[dict[str, Any]]:
    """Results so far; the last line of a model counts."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    last = {(row["library"], row["model"]): row for row in map(json.loads, lines)}
    return list(last.values())


def main() -> None:
    """Run what is missing, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="one JSON line per model; finished ones are skipped"
    )
    parser.add_argument("--only", nargs="*", default=[""], help="libraries or models that contain one of these texts")
    parser.add_argument("--again", action="store_true", help="run failed models again")
    parser.add_argument("--limit", type=int, default=120, help="processor seconds for one model")
    parser.add_argument("--jobs", type=int, default=2, help="models at a time")
    parser.add_argument("--no-save", action="store_true", help="leave saving and loading out")
    parser.add_argument("--page", type=Path, help="write the table here from the results, and run nothing")
    args = parser.parse_args()
    known = read(args.results)
    if args.page:
        args.page.write_text(page(known, coverage_models.names()), "utf-8")
        return
    done = {(row["library"], row["model"]) for row in known if not (args.again and row["status"] == "fail")}
    jobs = [
        job
        for job in coverage_models.names()
        if job not in done and any(text in f"{'/'.join(job)}/" for text in args.only)
    ]
    coverage_models.preload(jobs)
    build(
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GELU()), torch.ones(1, 3, 4, 4)
    )  # warms torch up once
    args.results.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(args.jobs) as pool, args.results.open("a", encoding="utf-8") as out:
        for row in pool.map(lambda job: attempt(job, args.limit, not args.no_save), jobs):
            for stream in (out, sys.stdout):
                print(json.dumps(row), file=stream, flush=True)


if __name__ == "__main__":
    main()
