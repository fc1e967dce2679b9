"""One workspace for all verbs: 320 digits in two files, a small trained network, its signals, a score and plans."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cli.shell import done


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files need not survive a power cut here."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: `train.npz`, `test.npz`, `dense/`, `sig/`, `score/`, `rows/` (plan), `cut/` (plan)."""
    from sklearn.datasets import load_digits

    place = tmp_path_factory.mktemp("cli")
    digits = load_digits()
    x = (digits.data / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    np.savez(place / "train.npz", x=x[:240], y=digits.target[:240])
    np.savez(place / "test.npz", x=x[240:320], y=digits.target[240:320])
    train, dense = place / "train.npz", place / "dense"
    flags = ("--epochs", 3, "--lr", 0.1, "--batch", 32)
    done("recover", "prunus:tinycnn", "--how", "finetune", "--data", train, *flags, "--out", dense)
    done("signals", train, "--model", dense, "--need", "probs,embedding", "--out", place / "sig")
    done("score", train, "el2n", "--signals", place / "sig", "--out", place / "score")
    done("plan", place / "score", "30% rows", "--out", place / "rows")
    done("plan", dense, "l1", "50% macs", "--out", place / "cut")
    return place


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to write into, and to be in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
