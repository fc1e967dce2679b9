"""Bad input: every refusal says what was wrong, with the value, and what to do; nothing is guessed."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import prunus as px
from contract import fixtures
from prunus.core import files
from prunus.core.errors import (
    BadInput,
    BudgetUnreachable,
    CorruptFile,
    FingerprintMismatch,
    IdMismatch,
    NonFinite,
    PrunusError,
    SchemaTooNew,
    SplitError,
    UnknownName,
)
from prunus.prunables.model import ModelPrunable
from prunus.recipe import parse
from prunus.signals.modules import ModuleSignals

pytestmark = pytest.mark.filterwarnings("ignore:below about")
DATA = fixtures.dataset()


def score(order: Any = None, method: str = "el2n") -> px.Score:
    return px.score(fixtures.dataset(order), method, signals=fixtures.row_signals())


class Breaks(nn.Module):
    """A forward that fails on every input."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(9, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


# ---- ids and fingerprints --------------------------------------------------------------------------------------------


def test_data_and_score_of_different_ids():
    ids, x, y = fixtures.arrays()
    other = px.Dataset((x, y), ids=ids + 1)
    with pytest.raises(IdMismatch, match="made for rows64 .* not for tuple"):
        px.plan(score(), "30% rows", data=other)
    with pytest.raises(IdMismatch, match="64 ids have no signals|1 of 64 ids have no signals"):
        px.score(other, "el2n", signals=fixtures.row_signals())
    with pytest.raises((IdMismatch, FingerprintMismatch)):
        px.plan(score(), "100% rows").apply(other)


def test_a_score_of_other_rows_with_the_same_ids_names_both():
    ids, x, y = fixtures.arrays()
    other = px.Dataset((x + 1, y), ids=ids, name="another set")
    with pytest.raises(FingerprintMismatch) as caught:
        px.plan(score(), "30% rows", data=other)
    assert "rows64" in str(caught.value) and "another set" in str(caught.value)


def test_a_plan_of_another_model_names_both():
    plan = px.plan(fixtures.model("channels"), "l1", "50% macs", example=fixtures.EXAMPLE)
    other = fixtures.model("channels")
    with torch.no_grad():
        other.last.bias.add_(1)
    with pytest.raises(FingerprintMismatch) as caught:
        plan.apply(other)
    for name in (plan.fingerprint, ModelPrunable(other).fingerprint(), "Small"):
        assert name in str(caught.value)


def test_a_score_of_another_model_names_both():
    made = px.score(fixtures.model("channels"), "l1", example=fixtures.EXAMPLE)
    other = fixtures.fresh("channels", constant=True)
    with pytest.raises(FingerprintMismatch) as caught:
        px.plan(made, "50% macs", model=other)
    assert made.fingerprint in str(caught.value) and other.fingerprint() in str(caught.value)


@pytest.mark.parametrize("ids", [[1, 1, *range(2, 64)], ["a", "a", *map(str, range(62))]])
def test_duplicate_ids_are_named(ids):
    with pytest.raises(BadInput, match=r"more than once"):
        px.Dataset((np.zeros((64, 2)), np.zeros(64, int)), ids=ids)
    with pytest.raises(BadInput, match=r"more than once"):
        px.Signals(ids, loss=np.zeros(64))


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "nearest"),
    [
        (lambda: px.score(DATA, "el2m"), "el2n"),
        (lambda: px.plan(score(), "30% rows", select="ccss"), "ccs"),
        (lambda: px.plan(score(), "30% rows", select="ccs", hard_cutt=0.1), "hard_cut"),
        (lambda: px.plan(score(), "30% rows", allocate="uniforn"), "uniform"),
        (lambda: px.plan(score(), "30% rwos"), "rows"),
        (lambda: px.plan(fixtures.model("channels"), "l1", "50% macs", example=fixtures.EXAMPLE, scop="all"), "scope"),
        (lambda: px.plan(fixtures.model("weights"), "magnitude", "50% weights", withn="all"), "within"),
        (lambda: px.plan(fixtures.model("layers"), "random", "4 layers", example=fixtures.EXAMPLE, sed=1), "seed"),
        (lambda: parse({"run": {"name": "x", "sedes": [1]}}), "seeds"),
        (lambda: score().group("row"), "rows"),
    ],
)
def test_an_unknown_name_tells_the_nearest(call, nearest):
    with pytest.raises(UnknownName, match=f"did you mean.*{nearest}"):
        call()


def test_selectors_of_other_units_are_refused():
    with pytest.raises(BadInput, match="select/nm selects weights, not rows"):
        px.plan(score(), "50% rows", select="nm")


# ---- budgets ---------------------------------------------------------------------------------------------------------


def test_a_plan_that_removes_nothing_is_an_error_but_for_all():
    with pytest.raises(BadInput, match="removes nothing"):
        px.plan(score(), "64 rows")
    assert px.plan(score(), "100% rows").removes_nothing


@pytest.mark.parametrize(
    ("call", "nearest"),
    [
        (lambda: px.plan(score(), "65 rows"), "64 rows"),
        (lambda: px.plan(score(), "0% rows"), "1 rows"),
        (lambda: px.plan(score(), "2 rows", pin=fixtures.arrays()[0][:3].tolist()), "3 rows"),
        (lambda: px.plan(score(), "50% rows", select="ccs", hard_cut=0.7), "19|20 rows"),
        (lambda: px.plan(fixtures.model("channels"), "l1", "1% macs", example=fixtures.EXAMPLE), "% macs"),
        (lambda: px.plan(fixtures.model("weights"), "magnitude", "0% weights"), "1 of"),
        (lambda: px.plan(fixtures.model("layers"), "random", "0% layers", example=fixtures.EXAMPLE), "1 layers"),
    ],
)
def test_a_budget_that_cannot_be_met_names_the_nearest(call, nearest):
    with pytest.raises(BudgetUnreachable, match=f"nearest reachable: .*({nearest})") as caught:
        call()
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("text", ["", "rows", "-5 rows", "130% rows", "3.5 rows", "0:4", "5:4", "nan rows", "30 %"])
def test_what_is_no_budget_is_refused_with_its_text(text):
    with pytest.raises(BadInput):
        px.Budget.parse(text)


# ---- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_signals_that_are_not_finite_name_their_ids(wrong):
    values = np.zeros(64)
    values[3] = wrong
    with pytest.raises(NonFinite, match="1003"):
        px.Signals(1000 + np.arange(64), loss=values)


def test_logits_that_overflowed_are_refused_by_id():
    logits = fixtures.draw(64, 4).half()
    logits[7] = torch.tensor(70000.0).half()  # infinity in half precision
    signals = px.Signals(fixtures.arrays()[0], logits=logits)
    with pytest.raises(NonFinite, match=str(fixtures.arrays()[0][7])):
        px.score(DATA, "el2n", signals=signals)


def test_derived_signals_count():
    ids, _, labels = fixtures.arrays()
    logits = fixtures.draw(64, 4)
    given = px.score(DATA, "el2n", signals=px.Signals(ids, probs=logits.softmax(-1)))
    derived = px.score(DATA, "el2n", signals=px.Signals(ids, logits=logits))
    np.testing.assert_array_equal(given.values["rows"], derived.values["rows"])
    losses = px.score(DATA, "loss", signals=px.Signals(ids, logits=logits, labels=labels))
    assert np.isfinite(losses.values["rows"]).all()


def test_one_row_and_equal_scores():
    one = px.Dataset((np.ones((1, 2)), np.array([0])), ids=[5])
    signals = px.Signals([5], probs=[[0.5, 0.5]])
    made = px.score(one, "el2n", signals=signals)
    assert px.plan(made, "100% rows", select="top").keep().tolist() == [5]
    with pytest.raises(BudgetUnreachable, match="nearest reachable: 1 rows"):
        px.plan(made, "50% rows")
    equal = px.score(DATA, "el2n", signals=fixtures.changed(fixtures.row_signals(), probs=torch.full((64, 4), 0.25)))
    assert px.plan(equal, "50% rows").keep().size == 32


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"probs": np.ones(64)}, r"probs must be \[n, classes\], not \[64\]"),
        ({"probs": np.full((64, 4), 0.5)}, "do not sum to 1"),
        ({"loss": np.ones(63)}, "63 rows"),
        ({"loss": 1.0}, "one entry per row"),
        ({"loss": np.array(["a"] * 64)}, "numbers"),
        ({"probs": np.full((64, 3), 1 / 3), "labels": np.full(64, 3)}, r"not in 0\.\.2"),
    ],
)
def test_shapes_and_types_are_checked(fields, what):
    with pytest.raises(BadInput, match=what):
        px.score(DATA, "el2n", signals=px.Signals(fixtures.arrays()[0], **fields))


def test_labels_outside_the_classes_are_named():
    with pytest.raises(BadInput, match="3"):
        px.score(DATA, "el2n", signals=px.Signals(fixtures.arrays()[0], probs=np.full((64, 2), 0.5)))


def test_half_precision_overflow_while_calibrating_names_the_module():
    model = fixtures.model("channels").half()
    with torch.no_grad():
        model.hidden.weight.mul_(1e5)
    x = 100 * fixtures.draw(8, 1, 16, 16).half()
    with pytest.raises(NonFinite, match="last|hidden"):
        px.plan(model, "flap", "50% macs", data=(x, torch.zeros(8, dtype=torch.int64)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_models_are_planned_and_cut(dtype):
    model = fixtures.model("channels").to(dtype)
    x = fixtures.draw(8, 1, 16, 16).to(dtype)
    plan = px.plan(model, "taylor", "50% macs", data=(x, torch.zeros(8, dtype=torch.int64)), compensate="none")
    small = plan.apply(model)
    assert {p.dtype for p in small.parameters()} == {dtype}
    assert torch.isfinite(small(x)).all()
    sparse = px.plan(model, "magnitude", "50% weights").apply(model)
    assert torch.isfinite(sparse(x)).all()


def test_frozen_parameters_are_measured_and_stay_frozen():
    model = fixtures.model("channels")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    x = fixtures.draw(8, 1, 16, 16)
    small = px.plan(model, "taylor", "50% macs", data=(x, torch.zeros(8, dtype=torch.int64))).apply(model)
    assert not any(p.requires_grad for p in (*model.parameters(), *small.parameters()))


# ---- models ----------------------------------------------------------------------------------------------------------


def test_a_forward_that_raises_tells_its_own_error_and_where():
    with pytest.raises(BadInput) as caught:
        px.plan(Breaks(), "l1", "50% macs", example=fixtures.EXAMPLE)
    assert "body.3" in str(caught.value) and "mat1 and mat2" in str(caught.value)
    with pytest.raises((RuntimeError, PrunusError), match="mat1 and mat2"):
        px.collect(Breaks(), (fixtures.EXAMPLE, torch.zeros(1, dtype=torch.int64)), "probs")


def test_the_wrong_example_is_told():
    with pytest.raises(BadInput, match=r"hidden|conv1"):
        px.plan(fixtures.model("channels"), "l1", "50% macs", example=torch.zeros(1, 3, 16, 16))
    with pytest.raises(BadInput, match="example"):
        px.plan(fixtures.model("channels"), "l1", "50% macs")
    with pytest.raises(BadInput, match="NoneType"):
        px.plan(None, "l1", "50% macs")


# ---- roles -----------------------------------------------------------------------------------------------------------


def test_test_rows_make_no_choice():
    test = fixtures.dataset(role="test")
    model = fixtures.model("channels")
    calls = [
        lambda: px.score(test, "el2n", signals=fixtures.row_signals()),
        lambda: px.score(test, "el2n", model=fixtures.vit()),
        lambda: px.plan(model, "taylor", "50% macs", data=test),
        lambda: px.recover(model, data=test),
        lambda: px.Recorder(test),
    ]
    for call in calls:
        with pytest.raises(SplitError, match="test"):
            call()
    assert test.reads.rows == 0 or test.reads.rows <= 2  # the shapes of an example at most


# ---- files -----------------------------------------------------------------------------------------------------------


def hostile(kind: str, good: bytes) -> bytes:
    size = struct.unpack("<Q", good[:8])[0]
    head = json.loads(good[8 : 8 + size])
    first = next(name for name in head if name != "__metadata__")
    if kind == "truncated":
        return good[:-3]
    if kind == "empty":
        return b""
    if kind == "huge header":
        return struct.pack("<Q", 2**60) + good[8:]
    if kind == "no json":
        return good[:8] + b"x" * size + good[8 + size :]
    if kind == "outside":
        head[first]["data_offsets"][1] += 10**9
    if kind == "huge shape":
        head[first]["shape"] = [2**40, 2**40]
    if kind == "odd type":
        head[first]["dtype"] = "PICKLE"
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + good[8 + size :]


KINDS = ("truncated", "empty", "huge header", "no json", "outside", "huge shape", "odd type")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["plan", "score", "signals", "modules", "model"])
def test_broken_files_are_refused_by_name(what, kind, tmp_path):
    model = fixtures.model("weights")
    makers: dict[str, tuple[Any, Any]] = {
        "plan": (lambda: px.plan(score(), "30% rows").save(tmp_path), px.Plan.load),
        "score": (lambda: score().save(tmp_path), px.Score.load),
        "signals": (lambda: fixtures.row_signals().save(tmp_path), px.Signals.load),
        "modules": (lambda: fixtures.measured("channels").save(tmp_path), ModuleSignals.load),
        "model": (lambda: px.save(model, px.plan(model, "magnitude", "50% weights"), tmp_path), None),
    }
    make, read = makers[what]
    make()
    read = read or (lambda folder: px.load(folder, like=model))
    path = sorted(tmp_path.rglob("*.safetensors"))[0]
    path.write_bytes(hostile(kind, path.read_bytes()))
    with pytest.raises((CorruptFile, BadInput), match=path.name):  # noqa: PT012 - fields are read when asked for
        found = read(tmp_path)
        _ = [found.field(name) for name in found.names] if what == "signals" else found


@pytest.mark.parametrize("what", ["plan", "score"])
def test_newer_and_odd_heads_are_refused(what, tmp_path):
    made = px.plan(score(), "30% rows") if what == "plan" else score()
    read = type(made).load
    made.save(tmp_path)
    head = files.read_json(tmp_path / f"{what}.json")
    files.write_json(tmp_path / f"{what}.json", {**head, "schema": 99})
    with pytest.raises(SchemaTooNew, match="99"):
        read(tmp_path)
    for odd in ([], "text", {**head, "groups": 3}, {}):
        files.write_json(tmp_path / f"{what}.json", odd)
        with pytest.raises(CorruptFile):
            read(tmp_path)
    (tmp_path / f"{what}.json").write_bytes(b"{")
    with pytest.raises(CorruptFile, match=what):
        read(tmp_path)
    with pytest.raises(BadInput, match="there is no file"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 40 + b"PAR1", b"not parquet at all"])
def test_broken_parquet_is_refused_by_name(content, tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "preds.parquet"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="preds.parquet"):
        px.Signals.from_parquet(path)
    with pytest.raises(BadInput, match="preds.parquet"):
        px.open_data(str(path))
