"""Latency: milliseconds of a batch, dense and pruned in turns, each in its own fresh process, threads pinned.

Removes: nothing.
Needs: the model, one batch, and the dense model where a ratio is wanted.
Cost: processes * (start + warm-up + repeats) of each model.
Departures: none. The word "speed-up" is used only when the 95 % interval of the paired ratio lies above 1; otherwise report the
    MAC ratio. Nothing here was tested on CUDA.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from prunus.core.errors import BadInput, ResourceError
from prunus.core.registry import measure
from prunus.measure.inputs import first_inputs
from prunus.measure.measured import Measured
from prunus.measure.stats import ratio_interval
from prunus.train.copies import copied
from prunus.train.modes import evaluating
from prunus.train.step import to_device

REPEATS = 20


@measure(needs=())
def latency(
    model: nn.Module,
    data: Any,
    *,
    step: Any = None,
    dense: nn.Module | None = None,
    batch: int = 1,
    repeats: int = 20,
    processes: int = 2,
    threads: int = 1,
    warmup: int = 3,
    mode: Literal["fresh", "quick"] = "fresh",
    timeout: float = 600.0,
) -> Measured:
    """`ms` (median of a batch), and with `dense` also `dense_ms` and `time_ratio` (dense / pruned; above 1 is faster).

    Args:
        data: rows, of which the first batch is used, or a ready batch in a list.
        step: not read: only the model's own forward pass is timed.
        dense: the model before pruning, timed in turns with this one.
        batch: rows in the batch.
        repeats: timed runs of each model, 20 or more in fresh mode.
        processes: how many times each model is started anew; the runs are spread over them.
        threads: threads of each process.
        warmup: untimed runs after each start.
        mode: fresh processes, or `quick`: in this process, which says so and carries no ratio in words.
        timeout: seconds one run may take.

    Raises:
        BadInput: fewer than 20 repeats in fresh mode, or a model that can't be sent to another process.
        ResourceError: a process died or took too long.
    """
    if mode == "fresh" and repeats < REPEATS:
        raise BadInput(f"fresh timings need {REPEATS} repeats or more, not {repeats}; mode='quick' takes fewer")
    inputs = first_inputs(data, batch)
    models = [model] if dense is None else [model, dense]
    run = _fresh if mode == "fresh" else _quick
    times = run(models, inputs, max(1, repeats), max(1, processes), threads, warmup, timeout)
    return _report(times, mode, threads, batch)


def _report(times: np.ndarray, mode: str, threads: int, batch: int) -> Measured:
    facts: dict[str, Any] = {
        "timing": mode,
        "threads": threads,
        "batch": batch,
        "repeats": times.shape[1],
        "device": "cpu",
    }
    ms = 1000 * times
    out: dict[str, tuple[float, tuple[float, float] | None]] = {"ms": (float(np.median(ms[0])), _spread(ms[0]))}
    if len(ms) == 2:
        out["dense_ms"] = (float(np.median(ms[1])), _spread(ms[1]))
        ratio, interval = ratio_interval(ms[1], ms[0])
        out["time_ratio"] = (ratio, interval)
        facts["words"] = words(interval, mode)
    return Measured(out, **facts)


def words(interval: tuple[float, float], mode: str) -> str:
    """What may be said about dense / pruned time."""
    if mode == "quick":
        return "quick timing in one process: no claim about speed"
    if interval[0] > 1:
        return "speed-up"
    return "slower" if interval[1] < 1 else "no measurable speed-up: report the MAC ratio"


def _spread(values: np.ndarray) -> tuple[float, float] | None:
    """The middle 95 % of order statistics that covers the median."""
    if values.size < 6:
        return None
    half = 1.96 * math.sqrt(values.size) / 2
    low, high = math.floor(values.size / 2 - half), math.ceil(values.size / 2 + half)
    ordered_values = np.sort(values)
    return float(ordered_values[max(low, 0)]), float(ordered_values[min(high, values.size - 1)])


def _time(model: nn.Module, inputs: tuple[tuple[Any, ...], dict[str, Any]]) -> float:
    with torch.inference_mode():
        start = time.perf_counter()
        model(*inputs[0], **inputs[1])
        return time.perf_counter() - start


def _quick(
    models: list[nn.Module], inputs: Any, repeats: int, processes: int, threads: int, warmup: int, timeout: float
) -> np.ndarray:
    """In this process, in turns; whatever else lives here disturbs it."""
    return in_turns(models, lambda model: model(*inputs[0], **inputs[1]), repeats, threads, warmup)


def in_turns(
    models: Sequence[nn.Module],
    call: Callable[[nn.Module], object],
    repeats: int,
    threads: int,
    warmup: int,
    clock: Callable[[], float] = time.perf_counter,
) -> np.ndarray:
    """Seconds `[models, repeats]` in this process: evaluation mode, threads pinned, in turns of alternating order.

    Args:
        models: left in the mode they were in.
        call: runs one of them.
        repeats: timed runs of each.
        threads: torch's, put back afterwards.
        warmup: untimed runs of each.
        clock: seconds.
    """

    def timed(model: nn.Module) -> float:
        with torch.inference_mode():
            start = clock()
            call(model)
            return clock() - start

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with evaluating(*models):
            for model in models:
                for _ in range(warmup):
                    timed(model)
            return np.array([_turn([lambda m=m: timed(m) for m in models], run) for run in range(repeats)]).T
    finally:
        torch.set_num_threads(before)


def _turn(timers: list[Any], run: int) -> list[float]:
    """One run of each, in alternating order, so that neither always follows the other."""
    order = list(range(len(timers)))
    found = {index: timers[index]() for index in (order if run % 2 == 0 else order[::-1])}
    return [found[index] for index in order]


def _fresh(
    models: list[nn.Module], inputs: Any, repeats: int, processes: int, threads: int, warmup: int, timeout: float
) -> np.ndarray:
    runs: list[list[float]] = []
    for number in range(processes):
        share = repeats // processes + (number < repeats % processes)
        if share == 0:
            continue
        workers = [_Worker(model, inputs, threads, warmup, timeout) for model in models]
        try:
            for worker in workers:
                worker.answer()
            runs += [_turn([worker.time for worker in workers], run) for run in range(share)]
        finally:
            for worker in workers:
                worker.stop()
    return np.array(runs).T


class _Worker:
    """A process of its own that runs one model when asked."""

    def __init__(self, model: nn.Module, inputs: Any, threads: int, warmup: int, timeout: float) -> None:
        context = multiprocessing.get_context("spawn")
        self.timeout = timeout
        self.pipe, other = context.Pipe()
        # A copy, because sending moves storages into shared memory.
        arguments = (other, copied(model).eval(), to_device(inputs, torch.device("cpu")), threads, warmup)
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        try:
            self.process.start()
        except (AttributeError, TypeError, RuntimeError) as error:
            raise BadInput(
                f"{type(model).__name__} can't be sent to another process ({error}); use mode='quick'"
            ) from error
        other.close()

    def answer(self) -> float:
        """Seconds of the last run (0 after the warm-up)."""
        try:
            if not self.pipe.poll(self.timeout):
                raise ResourceError(f"a timed run took longer than {self.timeout:g} s; raise timeout=")
            return float(self.pipe.recv())
        except EOFError as error:
            raise ResourceError("a timing process died, most likely out of memory") from error

    def time(self) -> float:
        """One timed run."""
        self.pipe.send(True)
        return self.answer()

    def stop(self) -> None:
        """End the process."""
        self.pipe.close()
        self.process.join(5)
        if self.process.is_alive():
            self.process.terminate()


def _serve(pipe: Connection, model: nn.Module, inputs: Any, threads: int, warmup: int) -> None:
    """The other process: warm up, then one run for each request."""
    torch.set_num_threads(threads)
    for _ in range(warmup):
        _time(model, inputs)
    pipe.send(0.0)
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        pipe.send(_time(model, inputs))
