"""The contract covers the whole catalogue: a new kind, unit or signal without a fixture fails here and says what to add."""

from __future__ import annotations

import numpy as np
import pytest

from contract import fixtures
from prunus.core import registry
from prunus.core.registry import Method
from prunus.signals.catalogue import providers

COVERED = {
    ("criterion", "rows"): "test_rows.py",
    ("criterion", "channels"): "test_channels.py",
    ("criterion", "weights"): "test_weights.py",
    ("solver", "weights"): "test_weights.py",
    ("criterion", "layers"): "test_layers.py",
    ("solver", "ranks"): "test_ranks.py",
    ("search", "channels"): "test_searches.py",
    ("search", "ranks"): "test_searches.py",
    ("search", "layers"): "test_searches.py",
    ("search", "weights"): "test_searches.py",
    ("criterion", "tokens"): "test_tokens.py",
    ("selector", ""): "test_selectors.py",
    ("selector", "weights"): "test_selectors.py",
    ("selector", "tokens"): "test_selectors.py",
    ("allocator", ""): "test_allocators.py",
    ("allocator", "weights"): "test_allocators.py",
    ("compensator", ""): "test_compensators.py",
    ("compensator", "weights"): "test_weight_compensators.py",
    ("dynamic", "rows"): "test_dynamics.py",
    ("schedule", ""): "test_schedules.py",
    ("recovery", ""): "test_recoveries.py",
    ("measure", ""): "test_measures.py",
}
TOKEN_SIGNALS = ("features", "cls_attention", "received_attention")
METHODS = [pytest.param(m, id=m.id) for m in registry.catalogue().values()]


@pytest.mark.parametrize("method", METHODS)
def test_kind_and_unit_have_a_fixture(method: Method):
    place = method.kind, method.unit
    assert place in COVERED, (
        f"{method.id} is a {method.kind} over {method.unit or 'any unit'}, which no contract test runs: write "
        f"tests/contract/test_{method.unit or method.room}.py with 64-unit fixtures, and add {place} to COVERED"
    )


@pytest.mark.parametrize("method", METHODS)
def test_signals_it_needs_are_measured_here(method: Method):
    rows = {*fixtures.row_signals().names, "ids", "labels"}
    held = {*providers(), "scores", "shapes", "recalls", "filters"}
    known = {"rows": rows, "tokens": set(TOKEN_SIGNALS)}.get(method.unit, held)
    if method.kind == "selector":
        known = {*fixtures.unit_signals(np.arange(64)).names}
    missing = [name for name in method.needs if name not in known]
    assert not missing, f"{method.id} needs {missing}: measure it in signals/, and it is in contract/fixtures.py too"
