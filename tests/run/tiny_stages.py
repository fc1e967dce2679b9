"""Small real stages on numpy: noisy class blobs, a logistic model, rows kept by loss. For the tests of the engine."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from prunus.core import files
from prunus.core.budget import Budget
from prunus.core.errors import BudgetUnreachable
from prunus.core.plan import Kept, Plan
from prunus.core.rng import uniform
from prunus.run.catalogue import Facts
from prunus.run.stage import Estimate, Stage

ROWS, WIDTH = 40, 3


def _pause() -> None:
    """Time to be killed in, and a trap set by the tests."""
    time.sleep(float(os.environ.get("TINY_PAUSE", "0")))


def _trap(stage: str) -> None:
    trap = os.environ.get("TINY_TRAP", "")
    if trap == f"{stage}:error":
        raise RuntimeError("a bug in the stage")
    if trap == f"{stage}:budget":
        raise BudgetUnreachable("30% rows can't be met", nearest="2 rows")
    if trap == f"{stage}:die":
        os.kill(os.getpid(), signal.SIGKILL)
    if trap == f"{stage}:memory":
        raise MemoryError
    if trap == f"{stage}:print":
        sys.stdout.write("noise on standard output\n")


def data(inputs: Mapping[str, Path], params: dict[str, Any], out: Path) -> None:
    _trap("data")
    ids = np.arange(ROWS)
    x = np.stack([uniform(0, f"x{column}", ids) for column in range(WIDTH)], axis=1)
    files.write_arrays(out / "rows.safetensors", {"x": x, "y": (x.sum(1) > WIDTH / 2).astype(np.int64)})


def model(inputs: Mapping[str, Path], params: dict[str, Any], out: Path) -> None:
    seed = params.get("seed", 0)
    files.write_arrays(out / "model.safetensors", {"w": uniform(seed, "weights", np.arange(WIDTH)) - 0.5})


def _rows(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    arrays = files.read_arrays(folder / "rows.safetensors")
    return arrays["x"] - 0.5, arrays["y"]


def _loss(w: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(-(2 * y - 1) * (x @ w)))


def train(inputs: Mapping[str, Path], params: dict[str, Any], out: Path) -> None:
    _trap("train")
    _pause()
    x, y = _rows(inputs["data"])
    if "plan" in inputs:
        kept = Plan.load(inputs["plan"]).keep()
        x, y = x[kept], y[kept]
    w = files.read_arrays(inputs["model"] / "model.safetensors")["w"]
    for _ in range(50):
        p = 1 / (1 + np.exp(-(x @ w)))
        w = w - 0.5 * ((p - y)[:, None] * x).mean(0)
    files.write_arrays(out / "model.safetensors", {"w": w})
    files.write_json(out / "training.json", {"samples": 50 * len(x)})


def signals(inputs: Mapping[str, Path], params: dict[str, Any], out: Path) -> None:
    _pause()
    x, y = _rows(inputs["data"])
    w = files.read_arrays(inputs["model"] / "model.safetensors")["w"]
    files.write_arrays(out / "signals.safetensors", {"loss": _loss(w, x, y)})


def score(inputs: Mapping[str, Path], params: dict[str, Any], out: Path) -> None:
    if params["method"]["name"] == "random":
        values = uniform(params["seed"], "score", np.arange(ROWS))
    else:
        values = files.read_arrays(inputs["signals"] / "signals.safetensors")["loss"]
    files.write_arrays(out / "score.safetensors", {"rows": values})


def plan(inputs: Mapping[str, Path], params: dict[str, Any], out: Path) -> None:
    _trap("plan")
    _pause()
    values = files.read_arrays(inputs["score"] / "score.safetensors")["rows"]
    budget = Budget.parse(params["budget"])
    kept = np.argsort(-values, kind="stable")[: budget.count(ROWS)]
    Plan("rows", {"rows": Kept.of_ids(kept, ROWS)}, budget, provenance={"method": params["method"]}).save(out)


def measure(inputs: Mapping[str, Path], params: dict[str, Any], out: Path) -> None:
    _trap("measure")
    x, y = _rows(inputs["data"])
    w = files.read_arrays(inputs["model"] / "model.safetensors")["w"]
    files.append_json(out / "metrics.jsonl", [{"metric": "loss", "value": float(_loss(w, x, y).mean())}])


def report(inputs: Mapping[str, Path], params: dict[str, Any], out: Path) -> None:
    lines = [
        line for path in sorted((inputs["run"] / "metrics").glob("*.jsonl")) for line in path.read_text().splitlines()
    ]
    rows = [f"<li>{(r := json.loads(line))['what']} {r['budget']}: {r['value']:.4f}" for line in lines]
    (out / "report.html").write_text(f"<h1>{params['name']}</h1>" + "\n".join(rows))


def _hour(params: dict[str, Any]) -> Estimate:
    return Estimate(hours=1.0, ram=1, disk=1000, cheaper="limit fit to 10 rows")


def threads(inputs: Mapping[str, Path], params: dict[str, Any], out: Path) -> None:
    files.write_json(out / "env.json", {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")})


def _warm() -> None:
    time.sleep(0.2)  # much longer than a batch: the test sees that what warms up isn't on the clock of the first one


STAGES = {
    "data": Stage(data),
    "model": Stage(model),
    "train": Stage(train, trains=True),
    "signals": Stage(signals),
    "score": Stage(score),
    "plan": Stage(plan),
    "measure": Stage(measure),
    "report": Stage(report),
}
DEAR = {**STAGES, "train": Stage(train, trains=True, estimate=_hour)}
NEXT = {**STAGES, "plan": Stage(plan, version=2)}
THREADS = {"threads": Stage(threads)}
WARM = {"threads": Stage(threads, warm=_warm)}
METHODS = {"random": Facts("criterion", random=True), "loss": Facts("criterion", ("loss",)), "rs2": Facts("dynamic")}


def facts(unit: str, name: str) -> Facts:
    return METHODS[name]


RECIPE = {
    "run": {"name": "tiny", "seeds": [0, 1]},
    "data": {"source": "sklearn:blobs"},
    "model": {"source": "prunus:logistic"},
    "train": {"epochs": 1},
    "controls": {"rows": ["random"]},
    "arms": [{"prune": {"method": "loss", "budget": ["30% rows", "50% rows"]}}],
}
