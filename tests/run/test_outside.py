"""Keys follow what lies outside the run: files, packages, the user's own code."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prunus.core.errors import BadInput
from prunus.run.outside import data_facts, model_facts, placed, source_fact


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRUNUS_DATA", str(tmp_path))
    (tmp_path / "a.csv").write_text("x\n1\n")
    return tmp_path / "a.csv"


def test_relative_paths_lie_below_the_data_folder(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert placed("a.csv?label=x") == f"{data}?label=x"
    for other in ("sklearn:digits", "s3://bucket/a.csv", str(data), ""):
        assert placed(other) == other
    monkeypatch.delenv("PRUNUS_DATA")
    assert placed("a.csv") == "a.csv"


def test_changed_or_moved_data(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = data_facts({"source": "a.csv", "test": {"source": "a.csv"}, "val": {"source": ""}, "fit": None})
    assert before.keys() == {"source", "test"}
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "a.csv").write_text("x\n1\n")
    os.utime(other / "a.csv", (1, 1))
    monkeypatch.setenv("PRUNUS_DATA", str(other))
    assert data_facts({"source": "a.csv"})["source"] == before["source"]  # a copy, at another time
    (other / "a.csv").write_text("x\n1\n2\n")
    assert data_facts({"source": "a.csv"})["source"] != before["source"]
    with pytest.raises(BadInput, match="PRUNUS_DATA"):
        source_fact("missing.csv")


def test_packages_count_by_version() -> None:
    assert source_fact("sklearn:digits").startswith("sklearn ")
    assert model_facts({"source": "timm:resnet18", "weights": "pretrained"}).keys() == {"source"}
    assert model_facts({"source": "prunus:resnet8"})["source"].startswith("prunus ")


def test_weights_and_own_code(data: Path, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"1")
    given = {"source": "prunus:resnet8", "weights": "w.safetensors"}
    before = model_facts(given)
    (tmp_path / "w.safetensors").write_bytes(b"12")
    assert model_facts(given)["weights"] != before["weights"]
    code = tmp_path / "net.py"
    code.write_text("def make(): ...")
    own = model_facts({"source": f"{code}:make"})
    code.write_text("def make(): pass")
    assert model_facts({"source": f"{code}:make"}) != own
    with pytest.raises(BadInput, match="no model"):
        model_facts({"source": "nonesuch.module:make"})
