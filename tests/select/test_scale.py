"""Selectors at scale: the memory they state bounds what they take, blocks do not matter, maps stay maps, caps hold."""

from __future__ import annotations

import inspect
import tracemalloc

import numpy as np
import pytest

import prunus as px
from prunus.core import registry
from prunus.core.errors import BadInput, ResourceError
from prunus.core.memory import evaluate
from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.flow import rows
from prunus.flow.limits import formula
from prunus.maths import (
    certified,
    determinant,
    euclidean,
    frechet,
    last_layer,
    near_duplicates,
    neighbours,
    spherical,
    submodular,
)
from prunus.rows import cal
from prunus.select.vectors import in_order
from prunus.signals.rowset import Signals

CRITERIA = [m for m in registry.methods(kind="criterion") if m.unit == "rows" and "memory" in m.facts]
METHODS = [m for m in registry.methods(kind="selector") if m.unit == "" and {"embedding", "probs"} & set(m.needs)]
over_embeddings = pytest.mark.parametrize("method", [pytest.param(m, id=m.name) for m in METHODS])


def scored(n: int = 300, d: int = 8, order: np.ndarray | None = None) -> GroupScore:
    draw = np.random.default_rng(0)
    x = (draw.standard_normal((n, d)) + 3 * draw.standard_normal((9, d))[draw.integers(0, 9, n)]).astype(np.float32)
    at = np.arange(n) if order is None else order
    fields = {"embedding": x, "labels": draw.integers(0, 4, n), "probs": draw.dirichlet(np.ones(4), n)}
    return GroupScore(draw.random(n)[at], at, "hard", Signals(at, **{name: v[at] for name, v in fields.items()}))


def selected(method, score: GroupScore, count: int, **options) -> np.ndarray:
    function = method.load()
    wants = inspect.signature(function).parameters
    more: dict = {"rng": Rng(0, method.id)} if "rng" in wants else {}
    if "target" in wants:
        more["target"] = np.random.default_rng(2).standard_normal((40, score.signals.shape("embedding")[1]))
    if "clusters" in wants and method.name == "snp":
        more["clusters"] = 2
    return score.ids[function(score, count, **more, **options)]


def bytes_of(method, **sizes) -> int:
    """What the method's formula says, its options at their defaults."""
    options = {option.name: option.default for option in method.options}
    numbers = {k: v for k, v in options.items() if isinstance(v, int | float) or v is None}
    return evaluate(formula(method), **numbers | sizes)


@over_embeddings
def test_blocks_do_not_matter(method, monkeypatch):
    whole = selected(method, scored(), 90)
    for module, name, size in (
        (certified, "CHUNK", 7), (certified, "EVERY", 3), (certified, "WIDTH", 2), (submodular, "BLOCK", 5),
        (determinant, "BLOCK", 4), (last_layer, "CHUNK", 11), (near_duplicates, "RAM", 3000), (near_duplicates, "BAND", 9),
        (near_duplicates, "FEW", 1), (neighbours, "CHUNK", 13), (neighbours, "BYTES", 500), (neighbours, "SPARE", 0),
        (spherical, "BLOCK", 17),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, size)
    np.testing.assert_array_equal(selected(method, scored(), 90), whole)


@pytest.mark.parametrize(
    "name", [m.name for m in registry.methods(kind="criterion") if m.unit == "rows" and "embedding" in m.needs]
)
def test_blocks_do_not_matter_to_criteria(name, monkeypatch):
    given = scored()
    data = px.Dataset((np.asarray(given.signals.embedding), np.asarray(given.signals.labels)), ids=given.ids)
    target = {"target": np.random.default_rng(2).standard_normal((40, 8))} if name == "feature_mapping" else {}
    whole = px.score(data, name, signals=given.signals, **target)
    for module, size_of, size in (
        (rows, "CHUNK", 37), (cal, "BYTES", 9000), (spherical, "BLOCK", 17), (euclidean, "BLOCK", 13), (frechet, "BLOCK", 7),
    ):  # fmt: skip
        monkeypatch.setattr(module, size_of, size)
    blocked = px.score(data, name, signals=given.signals, **target)
    np.testing.assert_array_equal(blocked.values["rows"], whole.values["rows"])


@over_embeddings
def test_the_stated_memory_is_enough(method):
    score = scored(3000, 24, np.random.default_rng(1).permutation(3000))
    stated = bytes_of(method, n=3000, d=24, c=4, m=60)
    blocks = {"max_ram": 10**7} if "max_ram" in method.keywords else {}  # on top
    stated += blocks.get("max_ram", 0)
    selected(method, score, 60, **blocks)
    tracemalloc.start()
    try:
        selected(method, score, 60, **blocks)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= stated + 2e5, (method.id, peak / 1e6, stated / 1e6)


@pytest.mark.parametrize("method", [pytest.param(m, id=m.name) for m in CRITERIA])
def test_the_memory_a_criterion_states_is_enough(method):
    signals, function = scored(3000, 24).signals, method.load()
    more = {"rng": Rng(0, method.id)} if "rng" in inspect.signature(function).parameters else {}
    function(signals, **more)
    tracemalloc.start()
    try:
        function(signals, **more)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= bytes_of(method, n=3000, d=24, c=4, m=0) + 2e5, (method.id, peak / 1e6)


def test_a_criterion_is_refused_before_it_starts():
    given = scored(400, 16)
    data = px.Dataset((np.asarray(given.signals.embedding), np.asarray(given.signals.labels)), ids=given.ids)
    for name in ("prototypes", "cal", "el2n"):
        with pytest.raises(ResourceError, match=f"rows/{name} over 400 rows .*max_ram is 0.00 GB: .*score parts"):
            px.score(data, name, signals=given.signals, max_ram=9000)
    free, capped = (px.score(data, "prototypes", signals=given.signals, max_ram=cap) for cap in (None, "2MB"))
    np.testing.assert_array_equal(free.values["rows"], capped.values["rows"])


def test_every_selector_over_embeddings_states_its_memory():
    assert len(METHODS) >= 12
    for method in METHODS:
        assert "memory" in method.facts and "emory" in method.cost, method.id


def planned(**options):
    score = scored(400, 16)
    x = np.asarray(score.signals.embedding)
    made = px.score(px.Dataset((x, np.asarray(score.signals.labels)), ids=score.ids), "random", signals=score.signals)
    return px.plan(made, "100 rows", **options)


@pytest.mark.parametrize("select", ["facility_location", "craig", "k_center", "semdedup,random"])
def test_a_cap_changes_no_plan(select):
    free, capped = planned(select=select), planned(select=select, max_ram="4MB" if "sem" not in select else "20MB")
    np.testing.assert_array_equal(free.keep(), capped.keep())
    assert free.provenance == capped.provenance


def test_a_cap_that_is_too_small_names_the_formula_and_a_cheaper_way():
    with pytest.raises(
        ResourceError, match=r"select/k_center over 400 rows .*8 \* n \* d.* max_ram is 0.00 GB: .*over='clusters'"
    ):
        planned(select="k_center", max_ram=1000)
    with pytest.raises(ResourceError, match="select/semdedup over 400 rows"):
        planned(select="semdedup,random", max_ram="1MB")
    assert planned(select="random", max_ram="20kB").keep().size == 100
    with pytest.raises(BadInput, match="a size is written"):
        planned(select="random", max_ram="much")


def test_rows_in_order_are_not_copied():
    x = np.zeros((5, 2))
    assert in_order(x, np.arange(5)) is x
    assert in_order(x, np.array([1, 0, 2, 3, 4])) is not x


@pytest.mark.parametrize("mode", ["r", "c"])
def test_a_memory_map_stays_one(mode, tmp_path):
    x = np.asarray(scored().signals.embedding)
    np.save(tmp_path / "embedding.npy", x)
    mapped = np.load(tmp_path / "embedding.npy", mmap_mode=mode)
    signals = Signals(np.arange(300), embedding=mapped)
    assert np.shares_memory(np.asarray(signals.embedding), mapped)
    given = scored()
    score = GroupScore(given.values, given.ids, "hard", signals)
    for name in ("k_center", "herding", "facility_location", "semdedup"):
        method = registry.find(name, kind="selector")
        np.testing.assert_array_equal(selected(method, score, 50), selected(method, given, 50))


def test_a_file_of_one_array_is_a_signal(tmp_path):
    x = np.asarray(scored().signals.embedding)
    np.save(tmp_path / "embedding.npy", x)
    alone = Signals.from_npz(tmp_path / "embedding.npy")
    assert alone.names == ("embedding",) and alone.ids[-1] == "embedding.npy:299"
    np.save(tmp_path / "ids.npy", np.arange(300) + 5)
    named = Signals.from_npz(tmp_path / "embedding.npy")
    np.testing.assert_array_equal(named.ids, np.arange(300) + 5)
    np.testing.assert_array_equal(np.asarray(named.embedding), x)


def test_parquet_becomes_shards_without_the_whole_table(tmp_path, monkeypatch):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    from prunus.signals import tables

    x = np.asarray(scored().signals.embedding)
    lists = arrow.FixedSizeListArray.from_arrays(arrow.array(x.ravel()), x.shape[1])
    table = arrow.table({"embedding": lists, "label": np.arange(300) % 4, "probs": [[0.25] * 4] * 300})
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=70)
    monkeypatch.setattr(tables, "BATCH", 64)
    found = Signals.from_parquet(tmp_path / "x.parquet", out=tmp_path / "out")
    whole = Signals.from_parquet(tmp_path / "x.parquet")
    for signals in (found, whole, Signals.load(tmp_path / "out")):
        np.testing.assert_array_equal(np.asarray(signals.embedding), x)
        assert signals.ids[-1] == "x.parquet:299" and signals.shape("probs") == (300, 4)
    with pytest.raises(BadInput, match="no parquet file"):
        Signals.from_parquet(tmp_path / "x.csv", out=tmp_path / "more")
    uneven = arrow.table({"embedding": [[1.0], [1.0, 2.0]]})
    parquet.write_table(uneven, tmp_path / "u.parquet")
    with pytest.raises(BadInput, match="lists of different lengths"):
        Signals.from_parquet(tmp_path / "u.parquet")
