"""Every method is loaded, and every fixture made, before the clock starts; then each check of each method has 0.3 s."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from contract import fixtures
from prunus.core import registry

SECONDS = 0.3


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
    """CPU seconds of the check itself: other work on the machine does not count."""
    start = time.process_time()
    yield
    spent = time.process_time() - start
    if "method" in getattr(item, "fixturenames", ()) and spent > SECONDS:
        pytest.fail(f"{item.name} took {spent:.2f} CPU-seconds on 64 units; a method has {SECONDS} s for each check")
