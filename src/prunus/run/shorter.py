"""Shorter jobs of the same kind: what a forecast runs instead of a stage that passes over rows, and how much shorter they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BATCHES = 20
WINDOWS = 2  # of text: one window is a batch of its own
PASSES = ("accuracy", "perplexity")  # measures that go through the rows; the others take a moment

Params = dict[str, Any]
Rows = Mapping[str, int]


@dataclass(frozen=True)
class Shorter:
    """A job of the same kind.

    Attributes:
        params: of the stage, changed so that it handles a few batches only.
        times: how many times as long the whole job takes.
    """

    params: Params
    times: float


def train(params: Params, rows: Rows) -> Shorter:
    """A few steps of a training."""
    steps = _steps(params, rows)
    few = min(BATCHES, steps)
    return Shorter({**params, "epochs": None, "steps": few, "dynamic": None}, steps / few)


def signals(params: Params, rows: Rows) -> Shorter:
    """A few steps of the recorded training, or a few batches of a pass."""
    count = min(rows["fit"], params["limit"] or rows["fit"])
    if not params["train"]:
        few = min(count, BATCHES * params["batch"])
        return Shorter({**params, "limit": few}, count / few)
    table, few = params["train"], min(count, BATCHES * params["train"]["batch"])
    epochs = params["epochs"] or table["epochs"] or -(-table["steps"] * table["batch"] // count)
    return Shorter({**params, "limit": few, "epochs": 1, "seeds": [0]}, len(params["seeds"]) * epochs * count / few)


def recover(params: Params, rows: Rows) -> Shorter:
    """A few batches of a recovery: all of it is counted as training, which is the dear part."""
    count = min(rows["fit"], params["limit"] or rows["fit"])
    few = min(count, BATCHES * params["batch"])
    epochs = params["epochs"] or (-(-params["steps"] * params["batch"] // count) if params["steps"] else 1)
    return Shorter({**params, "limit": few, "epochs": 1, "steps": None}, epochs * count / few)


def measure(params: Params, rows: Rows) -> Shorter:
    """A few batches of the measures that go through the rows."""
    metrics = [name for name in params["metrics"] if name in PASSES]
    if "perplexity" in metrics and params["tokens"] and params["window"]:
        tokens = min(params["tokens"], WINDOWS * params["window"])
        return Shorter({**params, "metrics": metrics, "tokens": tokens}, params["tokens"] / tokens)
    count = min(rows[params["role"]], params["limit"] or rows[params["role"]])
    few = min(count, WINDOWS if "perplexity" in metrics else BATCHES * params["batch"])
    return Shorter({**params, "metrics": metrics, "limit": few}, count / few)


def _steps(params: Params, rows: Rows) -> int:
    """Steps of a training; subsets get those of the whole set where the table says `equal = "steps"`."""
    count = rows["kept"] if params["equal"] == "epochs" else rows["fit"]
    return params["steps"] or params["epochs"] * -(-count // params["batch"])
