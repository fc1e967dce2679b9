"""Checks that several kinds share: what must not change, bytes of plans, threads."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from prunus.core.plan import Plan
from prunus.core.score import Score

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch's intra-op threads, restored afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def generators_alone() -> Iterator[None]:
    """No global generator is read or set: Python's, numpy's and torch's states are the same after the block."""
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    yield
    assert random.getstate() == before[0], "Python's generator was used"
    np.testing.assert_array_equal(np.random.get_state()[1], before[1], err_msg="numpy's generator was used")
    assert torch.equal(torch.get_rng_state(), before[2]), "torch's generator was used"


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """State, mode, hooks, requires_grad, gradients and generators are as before; a copy can still be made and trained."""
    before = _state(model)
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    with generators_alone():
        yield
    assert _state(model) == before, "mode, hooks, requires_grad or attributes changed"
    assert list(model.state_dict()) == list(tensors)
    for name, value in model.state_dict().items():
        assert torch.equal(value, tensors[name]), f"{name} changed"
    another = copy.deepcopy(model)
    assert not any(p.is_inference() for p in another.parameters())


def _state(model: nn.Module) -> dict[str, Any]:
    modules = {
        name: (type(m), m.training, sorted(vars(m)), [len(getattr(m, hook, ())) for hook in HOOKS])
        for name, m in model.named_modules()
    }
    return {**modules, "grads": {n: (p.requires_grad, p.grad is None) for n, p in model.named_parameters()}}


def contents(plan: Plan, folder: Path) -> dict[str, bytes]:
    """The bytes of the files a plan makes."""
    plan.save(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def round_trip(plan: Plan, folder: Path) -> None:
    """A plan, saved and loaded, is the same plan; so is its copy."""
    plan.save(folder)
    same = Plan.load(folder)
    assert same.hash() == plan.hash() == copy.deepcopy(plan).hash()
    assert not same.diff(plan)
    for path in folder.rglob("*"):
        assert path.suffix in (".json", ".safetensors")


def score_round_trip(score: Score, folder: Path) -> None:
    """A score, saved and loaded, holds the same numbers."""
    same = Score.load(score.save(folder))
    assert (same.unit, same.sense, same.fingerprint) == (score.unit, score.sense, score.fingerprint)
    assert dict(same.provenance) == dict(score.provenance)
    for name in score.values:
        np.testing.assert_array_equal(same.values[name], score.values[name])
    copy.deepcopy(score)
