"""Files of these tests need not survive a power cut: waiting for the disk would be most of their time."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync returns at once."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
