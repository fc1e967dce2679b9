"""check_data finds what was planted, and nothing else."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from prunus.prunables.dataset import Dataset
from prunus.sources.check import check_data
from prunus.sources.near import difference_hash
from prunus.sources.open import open_data
from sources import made


def test_clean_images(tmp_path):
    report = check_data(open_data(made.write_parquet(tmp_path / "t.parquet")))
    assert report.problems() == []
    assert report.classes == {"ant": 4, "bee": 4, "cat": 4}
    assert report.imbalance == 1.0
    assert report.columns[0]["sizes"] == {"8x8": 12}
    assert "no problem found" in str(report)


def test_planted_faults_are_found(tmp_path):
    rows = made.image_table(10).to_pylist()
    rows[5]["image"] = {"bytes": rows[0]["image"]["bytes"], "path": "elsewhere"}
    rows[8]["image"]["bytes"] = b"junk"
    rows[9]["image"] = {"bytes": made.picture(3, kind="BMP"), "path": None}
    path = made.write_parquet(tmp_path / "t.parquet", pa.Table.from_pylist(rows))
    report = check_data(open_data(path))
    assert list(report.unreadable) == ["t.parquet:8"]
    assert report.duplicates == [("t.parquet:0", "t.parquet:5"), ("t.parquet:3", "t.parquet:9")]
    assert report.conflicts == [(("t.parquet:0", "t.parquet:5"), (0, 2))]
    assert report.spare == 2
    assert len(report.problems()) == 3
    assert report.to_json()["spare"] == 2


def test_leaks_between_training_and_test(tmp_path):
    train = open_data(made.write_parquet(tmp_path / "train.parquet", made.image_table(9)))
    test = open_data(made.write_parquet(tmp_path / "test.parquet", made.image_table(6, first=7)), role="test")
    report = check_data(train, test)
    assert report.leaks == [("train.parquet:7", "test.parquet:0"), ("train.parquet:8", "test.parquet:1")]
    assert any("test.parquet" in line for line in report.problems())
    assert test.reads.rows == 0


def test_bad_numbers_and_constant_columns():
    table = pa.table({"a": [1.0, float("nan"), 3.0, None], "b": [7] * 4, "t": ["x", None, "zz", ""]})
    report = check_data(Dataset(table))
    facts = {c["name"]: (c["kind"], c["missing"], c["not_finite"]) for c in report.columns}
    assert facts == {"a": ("number", 0, 2), "b": ("number", 0, 0), "t": ("text", 1, 0)}
    assert {c["name"]: (c["low"], c["high"]) for c in report.columns}["t"] == (0, 2)
    assert any("b has one value" in line for line in report.problems())


def test_rows_that_raise_are_unreadable():
    class Odd(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            if i == 2:
                raise KeyError("gone")
            return torch.full((2,), float(i % 3)), 0

    report = check_data(Dataset(Odd()).with_role("val"))
    assert list(report.unreadable) == ["2"]
    assert report.duplicates == [(0, 3)]


def test_ids_and_labels_are_no_content():
    rows = [{"id": f"r{i}", "t": "same", "label": i} for i in range(3)]
    report = check_data(Dataset(rows, ids="id", label="label"))
    assert report.duplicates == [("r0", "r1", "r2")]
    assert report.conflicts == [(("r0", "r1", "r2"), (0, 1, 2))]


def jpeg(array: np.ndarray, quality: int) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(array).save(sink, "JPEG", quality=quality)
    return sink.getvalue()


def test_near_duplicate_images():
    grid = np.linspace(0, 255, 32)
    wave = [np.abs(np.sin(np.add.outer(grid * k, grid / k))) * 255 for k in (0.05, 0.11, 0.23, 0.31)]
    pictures = [np.repeat(w.astype(np.uint8)[..., None], 3, 2) for w in wave]
    cells = [jpeg(p, 95) for p in pictures] + [jpeg(pictures[1], 60)]
    report = check_data(Dataset(pa.table({"image": cells}), x="image"), near=True)
    assert report.duplicates == []
    assert report.near_duplicates == [(1, 4)]
    assert check_data(Dataset(pa.table({"image": cells}), x="image")).near_duplicates is None
    assert 0 <= difference_hash(np.zeros((3, 4, 4), dtype=np.uint8)) < 2**64


def test_near_duplicate_texts():
    pytest.importorskip("datasketch", reason="near duplicates of text need the extra data")
    base = " ".join(f"word{i}" for i in range(60))
    texts = [base, base.replace("word30", "other"), " ".join(f"thing{i}" for i in range(60))]
    report = check_data(Dataset(pa.table({"text": texts}), text="text"), near=True)
    assert report.near_duplicates == [(0, 1)]


def test_progress_counts_rows(tmp_path):
    seen = []
    check_data(open_data(made.write_parquet(tmp_path / "t.parquet")), progress=lambda done, of: seen.append((done, of)))
    assert seen == [(12, 12)]
