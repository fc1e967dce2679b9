"""Two processes over gloo: disjoint shards of the same plan, one table of losses, an error on all ranks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = Path(__file__).with_name("ranks.py")
EPOCHS, BATCH = 6, 8


@pytest.mark.parametrize("method", ["infobatch", "seta", "rs2"])
def test_two_ranks(method, tmp_path):
    outs = [tmp_path / f"{rank}.json" for rank in range(2)]
    ranks = [
        subprocess.Popen(
            [sys.executable, str(CHILD), str(rank), "2", str(tmp_path / "meet"), method, str(out)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, out in enumerate(outs)
    ]
    for process in ranks:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    first, second = (json.loads(out.read_text()) for out in outs)
    assert first["plans"] == second["plans"]
    assert first["loss"] == second["loss"]
    assert first["lengths"] == second["lengths"]
    for t in range(EPOCHS):
        one, other, plan = first["shards"][t], second["shards"][t], [i - 2**40 for i in first["plans"][t]]
        assert len(one) == len(other) == len(plan) // 2
        assert first["lengths"][t] == -(-len(one) // BATCH)
        assert not set(one) & set(other)
        assert set(one + other) <= set(plan)
    if method != "rs2":
        assert len({len(plan) for plan in first["plans"]}) > 1  # rows really were left out, by losses of both ranks
        assert first["nan"] == second["nan"] and str(2**40 + 1) in first["nan"]
