"""Signals of rows: checks by name, storage through memory maps, broken and hostile files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from prunus.core.errors import BadInput, CorruptFile, IdMismatch, NonFinite, SchemaTooNew, UnknownName
from prunus.signals.rowset import Signals


def some(rows: int = 10, text: bool = False) -> Signals:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(4), rows).astype(np.float32)
    ids = np.array([f"img/{row:03d}.png" for row in range(rows)]) if text else np.arange(rows) * 7
    return Signals(ids, probs=probs, labels=rng.integers(0, 4, rows), embedding=rng.normal(size=(rows, 3)))


def test_fields_are_torch_tensors_of_all_rows():
    signals = some()
    assert signals.probs.shape == (10, 4)
    assert signals.labels.dtype == torch.int64
    assert set(signals.names) == {"probs", "labels", "embedding"}
    assert len(signals) == 10
    with pytest.raises(AttributeError, match="probs"):
        _ = signals.prob


def test_half_precision_becomes_float32_and_int_ids_int64():
    signals = Signals(np.arange(3, dtype=np.int32), embedding=torch.ones(3, 2, dtype=torch.bfloat16))
    assert signals.embedding.dtype == torch.float32
    assert signals.ids.dtype == np.int64


def test_probs_and_loss_come_from_logits():
    logits = torch.randn(6, 3)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    signals = Signals(logits=logits, labels=labels)
    torch.testing.assert_close(signals.probs, logits.softmax(1))
    torch.testing.assert_close(signals.loss, torch.nn.functional.cross_entropy(logits, labels, reduction="none"))
    assert "loss" in signals.names


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"ids": [1, 2, 2], "loss": [0.0, 1.0, 2.0]}, BadInput, "2"),
        ({"ids": [5, 6, 7], "loss": [0.0, np.nan, 2.0]}, NonFinite, r"loss.*\[6\]"),
        ({"ids": [5, 6, 7], "loss": [0.0, np.inf, 2.0]}, NonFinite, r"\[6\]"),
        ({"ids": [5, 6], "loss": [0.0, 1.0, 2.0]}, BadInput, "3 rows"),
        ({"ids": [5.5, 6.5], "loss": [0.0, 1.0]}, BadInput, "ids"),
        ({"ids": [[5, 6]], "loss": [0.0]}, BadInput, "ids"),
        ({"ids": [5, 6], "probs": [[0.5, 0.5], [0.5, 0.9]]}, BadInput, r"\[6\].*sum to 1"),
        ({"ids": [5, 6], "probs": [[0.5, 0.5], [0.5, 0.5]], "labels": [0, 2]}, BadInput, r"\[2\].*\[6\].*0\.\.1"),
        ({"ids": ["a", "b"], "loss": ["x", "y"]}, BadInput, "numbers"),
        ({"ids": [1]}, BadInput, "at least one"),
        ({"loss": 3.0}, BadInput, "one entry per row"),
    ],
)  # fmt: skip
def test_bad_arrays_are_named(fields, error, words):
    with pytest.raises(error, match=words):
        Signals(**fields)


def test_take_align_merge_concat():
    signals = some()
    part = signals.take([3, 1])
    assert part.ids.tolist() == [21, 7]
    torch.testing.assert_close(part.probs, signals.probs[[3, 1]])
    assert signals.take(np.arange(10) < 2).ids.tolist() == [0, 7]
    torch.testing.assert_close(signals.align([21, 7]).embedding, part.embedding)
    with pytest.raises(IdMismatch, match="99"):
        signals.align([21, 99])
    with pytest.raises(BadInput, match=r"0\.\.9"):
        signals.take([10])
    more = part.merge(Signals([7, 21], loss=[0.25, 0.5]))
    assert more.loss.tolist() == [0.5, 0.25]
    both = Signals.concat([signals.take([0, 1]), signals.take([4])])
    assert both.ids.tolist() == [0, 7, 28]
    with pytest.raises(BadInput, match="more than once"):
        Signals.concat([signals, signals])
    ranks = Signals.concat([signals.take([4, 0, 2]), signals.take([2, 9, 0])], repeated="first")
    assert ranks.ids.tolist() == [28, 0, 14, 63]
    torch.testing.assert_close(ranks.probs, signals.probs[[4, 0, 2, 9]])


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("shard", [3, 10, 100])
def test_save_and_load_through_shards(tmp_path, text, shard):
    signals = some(text=text)
    signals.provenance = {"model": "tiny"}
    signals.save(tmp_path / "s", shard=shard)
    back = Signals.load(tmp_path / "s", verify=True)
    assert back.ids.tolist() == signals.ids.tolist()
    assert back.provenance == {"model": "tiny"}
    for name in signals.names:
        assert torch.equal(back.field(name), signals.field(name))
    chunks = list(back.chunks(2))
    assert max(map(len, chunks)) <= 2
    assert np.concatenate([chunk.ids for chunk in chunks]).tolist() == signals.ids.tolist()
    assert torch.equal(torch.cat([chunk.probs for chunk in chunks]), signals.probs)


def test_a_loaded_set_is_paged_in_when_used(tmp_path):
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    if not Path("/proc/self/statm").exists():
        pytest.skip("resident memory is read from /proc")
    signals = Signals(embedding=torch.zeros(100_000, 200))
    signals.save(tmp_path / "s")
    before = resident()
    view = Signals.load(tmp_path / "s").embedding
    assert view.nbytes == 80_000_000
    assert resident() - before < 8_000_000


def test_a_truncated_shard_is_corrupt(tmp_path):
    some().save(tmp_path / "s")
    path = next((tmp_path / "s").glob("rows-*"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(CorruptFile, match=path.name):
        Signals.load(tmp_path / "s")
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CorruptFile, match="hash"):
        Signals.load(tmp_path / "s", verify=True)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 8, (2**40).to_bytes(8, "little") + b"{}", b"\x02" + b"\0" * 7 + b"{}", b"PK\x03\x04pickle"],
)
def test_hostile_shards_are_corrupt(tmp_path, content):
    some().save(tmp_path / "s")
    path = next((tmp_path / "s").glob("rows-*"))
    path.write_bytes(content)
    manifest = json.loads((tmp_path / "s" / "signals.json").read_text())
    manifest["shards"][0]["bytes"] = len(content)
    (tmp_path / "s" / "signals.json").write_text(json.dumps(manifest))
    with pytest.raises(CorruptFile):
        Signals.load(tmp_path / "s")


def test_hostile_manifests(tmp_path):
    some().save(tmp_path / "s")
    path = tmp_path / "s" / "signals.json"
    good = json.loads(path.read_text())
    for bad in ([], {}, {"schema": "x"}, {**good, "shards": []}, {**good, "shards": [{"file": "../../x", "rows": 10}]}):
        path.write_text(json.dumps(bad))
        with pytest.raises(CorruptFile):
            Signals.load(tmp_path / "s")
    path.write_text(json.dumps({**good, "schema": 99}))
    with pytest.raises(SchemaTooNew, match="99"):
        Signals.load(tmp_path / "s")
    path.write_text("{")
    with pytest.raises(CorruptFile, match="JSON"):
        Signals.load(tmp_path / "s")
    path.unlink()
    with pytest.raises(CorruptFile, match="interrupted"):
        Signals.load(tmp_path / "s")


def test_parquet_npz_jsonl_csv(tmp_path):
    table = pytest.importorskip("pyarrow")
    import pyarrow.csv as csv
    import pyarrow.parquet as parquet

    probs = [[0.9, 0.1], [0.2, 0.8]]
    columns = {"id": ["a", "b"], "label": [0, 1], "probs": probs, "note": ["x", "y"]}
    parquet.write_table(table.table(columns), tmp_path / "p.parquet")
    np.savez(tmp_path / "p.npz", ids=np.array(["a", "b"]), labels=[0, 1], probs=probs)
    lines = [{"id": i, "label": y, "probs": p} for i, y, p in zip("ab", (0, 1), probs)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    flat = {"file": ["a", "b"], "label": [0, 1], "prob_0": [0.9, 0.2], "prob_1": [0.1, 0.8]}
    csv.write_csv(table.table(flat), tmp_path / "p.csv")
    for name, more in (("p.parquet", {}), ("p.npz", {}), ("p.jsonl", {}), ("p.csv", {"id": "file"})):
        signals = Signals.from_parquet(tmp_path / name, **more)
        assert signals.ids.tolist() == ["a", "b"]
        assert signals.labels.tolist() == [0, 1]
        torch.testing.assert_close(signals.probs.float(), torch.tensor(probs))
    with pytest.raises(UnknownName, match="label"):
        Signals.from_parquet(tmp_path / "p.parquet", labels="lable")
    (tmp_path / "p.parquet").write_bytes((tmp_path / "p.parquet").read_bytes()[:-9])
    with pytest.raises(CorruptFile, match=r"p\.parquet"):
        Signals.from_parquet(tmp_path / "p.parquet")
    np.savez(tmp_path / "o.npz", ids=np.array([{"a": 1}], dtype=object))
    with pytest.raises(CorruptFile):
        Signals.from_npz(tmp_path / "o.npz")


def test_a_broken_write_leaves_no_set(tmp_path):
    from prunus.signals.shards import Writer

    with pytest.raises(RuntimeError), Writer(tmp_path / "s", shard=4) as writer:  # noqa: PT012
        writer.add(np.arange(6), {"loss": torch.zeros(6)})
        raise RuntimeError("killed")
    with pytest.raises(CorruptFile, match="interrupted"):
        Signals.load(tmp_path / "s")
