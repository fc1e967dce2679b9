"""open_data: every kind of file, its ids, its labels, and what happens when it is broken."""

from __future__ import annotations

import json
import os

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prunus.core.errors import BadInput, CorruptFile, UnknownName
from prunus.prunables.dataset import Dataset
from prunus.sources.location import locate
from prunus.sources.open import open_data
from prunus.sources.parquet import ParquetRows, Reader
from sources import made


def test_parquet_of_images(tmp_path):
    data = open_data(str(made.write_parquet(tmp_path / "train.parquet")), normalise="half")
    assert data.ids[:2].tolist() == ["train.parquet:0", "train.parquet:1"]
    assert data.classes == made.CLASSES
    assert data.labels.tolist() == [i % 3 for i in range(12)]
    ids, x, y = next(data.batches(12, seed=0))
    where = [int(i.split(":")[1]) for i in ids]
    assert y.tolist() == [i % 3 for i in where]
    straight = next(data.batches(12))[1]
    np.testing.assert_array_equal(x.numpy(), straight.numpy()[where])
    assert x.min() < 0


def test_parquet_is_filtered_without_copying(tmp_path):
    data = open_data(made.write_parquet(tmp_path / "t.parquet"))
    kept = data.take(["t.parquet:7", "t.parquet:2"])
    assert isinstance(kept, Dataset)
    assert isinstance(kept.backing, ParquetRows)
    assert kept.labels.tolist() == [1, 2]
    assert kept.backing.column("label").tolist() == [1, 2]
    again = kept.take(["t.parquet:2"])
    np.testing.assert_array_equal(next(again.batches(1))[1], next(data.batches(1, ids=["t.parquet:2"]))[1])


def test_parquet_folder_ids_are_relative_and_files_may_differ_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    made.write_parquet(tmp_path / "b" / "1.parquet", made.image_table(4))
    made.write_parquet(tmp_path / "a.parquet", made.image_table(3).select(["label", "image"]))
    data = open_data(str(tmp_path))
    assert data.ids[[0, 2, 3, 6]].tolist() == ["a.parquet:0", "a.parquet:2", "b/1.parquet:0", "b/1.parquet:3"]
    assert next(data.batches(7, seed=1))[1].shape == (7, 3, 8, 8)
    made.write_parquet(tmp_path / "c.parquet", pa.table({"label": [1]}))
    with pytest.raises(BadInput, match="image"):
        open_data(str(tmp_path))


def test_id_columns_also_from_inside_a_struct(tmp_path):
    data = open_data(made.write_parquet(tmp_path / "t.parquet"), id="image.path")
    assert data.ids[4] == "bee/004.png"
    with pytest.raises(BadInput, match="unique"):
        open_data(tmp_path / "t.parquet", id="label")
    with pytest.raises(UnknownName, match="label"):
        open_data(tmp_path / "t.parquet", label="lable")


def test_options_behind_a_question_mark(tmp_path):
    path = made.write_parquet(tmp_path / "t.parquet")
    data = open_data(f"{path}?id=image.path&role=test&limit=5&size=4")
    assert (len(data), data.role, data.ids[0]) == (5, "test", "ant/000.png")
    assert next(data.batches(2))[1].shape == (2, 3, 4, 4)
    with pytest.raises(UnknownName, match="label"):
        open_data(f"{path}?labels=label")


def test_row_group_cache_has_a_bound(tmp_path):
    path = made.write_parquet(tmp_path / "t.parquet", made.image_table(12), groups=6)
    reader = Reader([locate(str(path))], cache_bytes=1)
    rows = ParquetRows(reader)
    got = rows.rows(np.array([11, 0, 5, 0]))
    assert got["label"].tolist() == [2, 0, 2, 0]
    assert len(reader._cache) == 1


def test_truncated_and_foreign_parquet(tmp_path):
    path = made.write_parquet(tmp_path / "t.parquet")
    whole = path.read_bytes()
    for bad in (b"", b"PAR1", whole[: len(whole) // 2], b"\0" * 100 + b"PAR1", whole[:-8] + b"\xff\xff\xff\x7fPAR1"):
        path.write_bytes(bad)
        with pytest.raises(CorruptFile, match=r"t\.parquet"):
            open_data(path)
    with pytest.raises(BadInput, match="no file"):
        open_data(tmp_path / "absent.parquet")


def test_a_broken_row_group_is_named_or_quarantined(tmp_path):
    path = made.broken_parquet(tmp_path / "t.parquet")
    data = open_data(path)
    with pytest.raises(CorruptFile, match=r"t\.parquet"):
        list(data.batches(4))
    left = open_data(path, quarantine=True)
    assert left.quarantined == tuple(f"t.parquet:{i}" for i in range(4, 8))
    assert len(left) == 8
    assert left.labels.tolist() == [0, 1, 2, 0, 2, 0, 1, 2]
    assert sum(len(batch[0]) for batch in left.batches(3)) == 8


def test_a_broken_image_is_named_or_quarantined(tmp_path):
    table = made.image_table(6).to_pylist()
    table[1]["image"]["bytes"] = b"not an image"
    table[4]["image"]["bytes"] = None
    path = made.write_parquet(tmp_path / "t.parquet", pa.Table.from_pylist(table))
    with pytest.raises(CorruptFile, match=r"t\.parquet:1.*t\.parquet:4.*quarantine"):
        list(open_data(path).batches(6))
    left = open_data(path, quarantine=True)
    assert left.quarantined == ("t.parquet:1", "t.parquet:4")
    assert left.labels.tolist() == [0, 2, 0, 2]
    assert next(left.batches(4))[1].shape[0] == 4


def test_paths_in_cells_are_never_followed(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(made.picture(1))
    cells = pa.array([{"bytes": None, "path": str(secret)}], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    path = made.write_parquet(tmp_path / "t.parquet", pa.table({"image": cells}))
    with pytest.raises(CorruptFile, match="no bytes"):
        next(open_data(path).batches(1))


def test_image_folder(tmp_path):
    data = open_data(str(made.image_folder(tmp_path / "root")))
    assert data.ids[:2].tolist() == ["ant/000.png", "ant/003.png"]
    assert data.classes == made.CLASSES
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    kept = data.take(["cat/002.png", "ant/006.png"])
    assert kept.labels.tolist() == [2, 0]
    assert kept.classes == made.CLASSES
    assert next(kept.batches(2))[1].shape == (2, 3, 8, 8)
    (tmp_path / "root" / "bee" / "broken.png").write_bytes(b"")
    assert open_data(tmp_path / "root", quarantine=True).quarantined == ("bee/broken.png",)
    (tmp_path / "root" / "stray.png").write_bytes(made.picture(1))
    with pytest.raises(BadInput, match="stray"):
        open_data(tmp_path / "root")


def test_flat_image_folder_has_no_labels(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(made.picture(i))
    data = open_data(tmp_path)
    assert data.labels is None
    assert next(data.batches(3))[2] is None


def test_json_lines(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(
        '{"text": "a", "label": "x"}\n\n{"text": "ü", "label": "y", "more": [1]}\r\n{"text": "c", "label": "x"}'
    )
    data = open_data(path)
    assert data.ids.tolist() == ["t.jsonl:0", "t.jsonl:2", "t.jsonl:3"]
    assert (data.classes, data.labels.tolist(), data.text) == (("x", "y"), [0, 1, 0], "text")
    batch = next(data.batches(3))
    assert batch["text"] == ["a", "ü", "c"]
    assert batch["more"] == [None, [1], None]
    assert next(data.take(["t.jsonl:2"]).batches(1))["text"] == ["ü"]
    path.write_text('{"text": "a"}\n{"text": \n[1]\n' + "[" * 100_000 + "\n")
    with pytest.raises(CorruptFile, match=r"3 rows.*t\.jsonl:1"):
        next(open_data(path).batches(9))
    left = open_data(path, quarantine=True)
    assert left.quarantined == ("t.jsonl:1", "t.jsonl:2", "t.jsonl:3")
    assert left.ids.tolist() == ["t.jsonl:0"]


def test_csv(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a,b,label\n1,2.5,x\n3,4,"y, z"\n5,6,x\n')
    data = open_data(path, x=["a", "b"])
    _, x, y = next(data.batches(3))
    assert x.tolist() == [[1, 2.5], [3, 4], [5, 6]]
    assert (data.classes, y.tolist()) == (("x", "y, z"), [0, 1, 0])
    path.write_text("a,label\n1,x\n2,y,3\n4,z\n")
    with pytest.raises(CorruptFile, match=r"t\.csv:1"):
        open_data(path)
    left = open_data(path, quarantine=True)
    assert left.ids.tolist() == ["t.csv:0", "t.csv:2"]
    assert left.quarantined == ("t.csv:1",)
    (tmp_path / "t.tsv").write_text("a\tlabel\n1\tx\n")
    assert open_data(tmp_path / "t.tsv", x="a").labels.tolist() == [0]
    path.write_text("")
    with pytest.raises(CorruptFile):
        open_data(path)


def test_npz_npy_and_text(tmp_path):
    np.savez(tmp_path / "t.npz", x=np.eye(4, dtype=np.float32), y=np.arange(4))
    data = open_data(tmp_path / "t.npz")
    assert data.ids[3] == "t.npz:3"
    assert data.subset(["t.npz:2"]).labels.tolist() == [2]
    np.save(tmp_path / "t.npy", np.eye(4))
    assert next(open_data(tmp_path / "t.npy").batches(4))[1].shape == (4, 4)
    np.savez(tmp_path / "o.npz", x=np.array([{}], dtype=object))
    with pytest.raises(CorruptFile, match=r"o\.npz"):
        open_data(tmp_path / "o.npz")
    (tmp_path / "t.npz").write_bytes((tmp_path / "t.npz").read_bytes()[:80])
    with pytest.raises(CorruptFile):
        open_data(tmp_path / "t.npz")
    (tmp_path / "t.txt").write_text("one\n\n two\n", "utf-8")
    assert open_data(tmp_path / "t.txt").ids.tolist() == ["t.txt:0", "t.txt:2"]
    (tmp_path / "t.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorruptFile, match="UTF-8"):
        open_data(tmp_path / "t.txt")


def test_bundled_digits():
    data = open_data("sklearn:digits", role="train")
    _, x, y = next(data.batches(10))
    assert x.shape == (10, 1, 8, 8)
    assert 0 <= x.min() <= x.max() <= 1
    assert y.tolist() == list(range(10))
    with pytest.raises(BadInput, match="digits"):
        open_data("sklearn:faces")


def test_hugging_face_folders(tmp_path):
    base = datasets.Dataset.from_list([{"a": i, "label": i % 2} for i in range(5)])
    base.save_to_disk(tmp_path / "one")
    for spec in (f"datasets:{tmp_path / 'one'}", str(tmp_path / "one")):
        data = open_data(spec)
        assert data.labels.tolist() == [0, 1, 0, 1, 0]
        assert isinstance(data.take([1, 3]), datasets.Dataset)
    datasets.DatasetDict({"train": base, "test": base}).save_to_disk(tmp_path / "two")
    assert len(open_data(f"datasets:{tmp_path / 'two'}", split="test")) == 5
    with pytest.raises(BadInput, match="train, test"):
        open_data(f"datasets:{tmp_path / 'two'}")
    os.truncate(next((tmp_path / "one").glob("*.arrow")), 20)
    with pytest.raises(CorruptFile):
        open_data(f"datasets:{tmp_path / 'one'}")


def test_the_hub_can_not_be_reached(monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BadInput, match="HF_HUB_OFFLINE is set"):
        open_data("datasets:some/name")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(BadInput, match="no route"):
        open_data("datasets:some/name")


def test_urls(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/t.parquet", made.write_parquet(tmp_path / "t.parquet").read_bytes())
    memory.pipe("/bucket/t.jsonl", json.dumps({"a": 1}).encode())
    data = open_data("memory://bucket/t.parquet")
    assert next(data.batches(12, seed=0))[1].shape == (12, 3, 8, 8)
    assert next(open_data("memory://bucket/t.jsonl").batches(1))["a"].tolist() == [1]
    before = open_data("memory://bucket/t.parquet").fingerprint()
    assert before == data.fingerprint()
    with pytest.raises(BadInput, match="nosuch"):
        open_data("nosuch://x.parquet")


def test_unknown_kinds(tmp_path):
    (tmp_path / "t.xyz").write_text("?")
    with pytest.raises(BadInput, match=r"\.xyz"):
        open_data(tmp_path / "t.xyz")
    with pytest.raises(BadInput, match=r"\.xyz"):
        open_data(tmp_path)
    with pytest.raises(BadInput, match="limit"):
        open_data("sklearn:iris", limit=0)


def test_fingerprint_of_files(tmp_path):
    path = made.write_parquet(tmp_path / "t.parquet")
    first = open_data(path)
    assert first.fingerprint() == open_data(path).fingerprint()
    content = first.fingerprint(verify=True)
    os.utime(path, (1, 1))
    second = open_data(path)
    assert second.fingerprint() != open_data(made.write_parquet(tmp_path / "u.parquet")).fingerprint()
    assert second.fingerprint(verify=True) == content
    assert open_data(path).fingerprint() != content
    table = pq.read_table(path)
    made.write_parquet(path, table.set_column(1, "label", pa.array([0] * 12)))
    assert open_data(path).fingerprint(verify=True) != content


def test_objects_pass_through():
    data = open_data((np.eye(3), np.arange(3)), role="val")
    assert (data.role, len(data)) == ("val", 3)
    assert open_data(data) is data
