"""Every method is loaded, and every fixture made, before the clock starts; then each call of each method has 0.3 s.

A check makes up to CALLS of them (score, plan and apply, some twice, to compare)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from contract import fixtures
from prunus.core import registry
from prunus.prunables.model import ModelPrunable

SECONDS = float(os.environ.get("PRUNUS_CHECK_SECONDS", "5"))
CALLS = 4


@pytest.fixture(scope="session", autouse=True)
def ready() -> None:
    """Imports, caches and first calls that are not the methods' own cost."""
    for method in registry.catalogue().values():
        method.load()
    fixtures.warm()


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files need not survive a power cut here: waiting for the disk is most of the time a plan takes to be saved."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """CPU seconds of the check itself, the best of three runs where the first was slow: other work on the machine
    does not count."""
    start = time.process_time()
    yield
    spent = time.process_time() - start
    for _ in range(2):
        if "method" not in getattr(item, "fixturenames", ()) or spent <= CALLS * SECONDS:
            return
        start = time.process_time()
        item.runtest()
        spent = min(spent, time.process_time() - start)
    if spent > CALLS * SECONDS:
        pytest.fail(f"{item.name} took {spent:.2f} CPU-seconds on 64 units; a call has {SECONDS} s")


@pytest.fixture
def fresh(request: pytest.FixtureRequest) -> ModelPrunable:
    """A model of the module's UNIT that the check may change; its graph is recorded before the clock starts."""
    return fixtures.fresh(request.module.UNIT)


@pytest.fixture
def constant(request: pytest.FixtureRequest) -> ModelPrunable:
    """The same with equal numbers in every parameter."""
    return fixtures.fresh(request.module.UNIT, constant=True)
