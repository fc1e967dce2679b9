"""export and read_ids: every format, both directions, nothing half written."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torchvision

from prunus.core.budget import Budget
from prunus.core.errors import BadInput, CorruptFile, IdMismatch, ResourceError, UnknownName
from prunus.core.plan import Kept, Plan
from prunus.prunables.dataset import Dataset
from prunus.sources.export import export, read_ids
from prunus.sources.open import open_data
from sources import made


def plan_of(data: Dataset, kept: list) -> Plan:
    ids = np.array(kept)
    gone = len(data) - len(kept)
    groups = {"rows": Kept.of_ids(ids, len(data), data.ids)}
    reasons = {"rows": np.zeros(gone, dtype=np.uint8)}
    return Plan("rows", groups, Budget.parse(f"{len(kept)} rows"), {}, reasons=reasons, reason_names=("not chosen",))


@pytest.fixture
def photos(tmp_path):
    return open_data(made.write_parquet(tmp_path / "t.parquet"))


KEPT = ["t.parquet:11", "t.parquet:2", "t.parquet:7"]


@pytest.mark.parametrize("kind", ["txt", "npy", "csv", "jsonl", "parquet"])
@pytest.mark.parametrize("which", ["kept", "dropped"])
def test_ids_go_out_and_come_back(photos, tmp_path, kind, which):
    plan = plan_of(photos, KEPT)
    path = export(plan, None, tmp_path / f"ids.{kind}", kind, which=which)
    want = plan.keep() if which == "kept" else plan.dropped()
    assert read_ids(path).tolist() == want.tolist()
    assert read_ids(path, like=photos).tolist() == want.tolist()


@pytest.mark.parametrize("kind", ["txt", "npy", "csv", "jsonl", "parquet"])
def test_number_ids_come_back_as_numbers(tmp_path, kind):
    data = Dataset((np.eye(5), np.arange(5)))
    path = export(plan_of(data, [4, 0]), None, tmp_path / f"ids.{kind}", kind)
    assert read_ids(path).tolist() == [0, 4]
    assert read_ids(path).dtype == np.int64


def test_ids_follow_the_order_of_the_data(photos, tmp_path):
    path = export(plan_of(photos, KEPT), photos, tmp_path / "ids.txt")
    assert path.read_text().split() == ["t.parquet:2", "t.parquet:7", "t.parquet:11"]


def test_parquet_rows_open_again_with_their_ids(photos, tmp_path):
    path = export(plan_of(photos, KEPT), photos, tmp_path / "kept.parquet", "parquet")
    again = open_data(path, id="prunus_id")
    assert again.ids.tolist() == ["t.parquet:2", "t.parquet:7", "t.parquet:11"]
    assert again.labels.tolist() == [2, 1, 2]
    assert again.classes == made.CLASSES
    np.testing.assert_array_equal(next(again.batches(3))[1], next(photos.batches(3, ids=again.ids))[1])
    features = json.loads(pq.read_schema(path).metadata[b"huggingface"])["info"]["features"]
    assert set(features) == {"image", "label", "prunus_id"}
    twice = export(plan_of(again, again.ids[:1].tolist()), again, tmp_path / "less.parquet", "parquet")
    assert read_ids(twice).tolist() == ["t.parquet:2"]


def test_the_datasets_library_reads_the_rows(photos, tmp_path):
    import datasets

    path = export(plan_of(photos, KEPT), photos, tmp_path / "kept.parquet", "parquet")
    found = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert found.features["label"].names == list(made.CLASSES)
    assert found[0]["image"].size == (8, 8)


def test_csv_and_json_rows(tmp_path):
    (tmp_path / "t.csv").write_text("a,label\n1,x\n2,y\n3,x\n")
    table = open_data(tmp_path / "t.csv")
    path = export(plan_of(table, ["t.csv:0", "t.csv:2"]), table, tmp_path / "kept.csv", "csv")
    assert open_data(path, id="prunus_id", x="a").ids.tolist() == ["t.csv:0", "t.csv:2"]
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n{"b": [{"c": "ü"}]}\n')
    lines = open_data(tmp_path / "t.jsonl")
    path = export(plan_of(lines, ["t.jsonl:1"]), lines, tmp_path / "kept.jsonl", "jsonl")
    assert json.loads(path.read_text()) == {"b": [{"c": "ü"}], "prunus_id": "t.jsonl:1"}


def test_formats_that_can_not_hold_the_rows_say_so(photos, tmp_path):
    for kind in ("csv", "jsonl"):
        with pytest.raises(BadInput, match="parquet"):
            export(plan_of(photos, KEPT), photos, tmp_path / "x", kind)
    arrays = Dataset((np.eye(3), np.arange(3)))
    with pytest.raises(BadInput, match="txt"):
        export(plan_of(arrays, [1]), arrays, tmp_path / "x", "parquet")
    with pytest.raises(BadInput, match="image folder"):
        export(plan_of(photos, KEPT), photos, tmp_path / "x", "symlinks")
    with pytest.raises(UnknownName, match="parquet"):
        export(plan_of(photos, KEPT), photos, tmp_path / "x", "parket")
    odd = Dataset((np.eye(2), np.arange(2)), ids=["a\nb", "c"])
    with pytest.raises(BadInput, match="npy"):
        export(plan_of(odd, ["a\nb"]), odd, tmp_path / "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.parquet"]


def test_symlinks_keep_class_folders_for_torchvision(tmp_path):
    data = open_data(made.image_folder(tmp_path / "root"))
    plan = plan_of(data, ["ant/003.png", "bee/001.png", "cat/008.png", "cat/002.png"])
    path = export(plan, data, tmp_path / "less", "symlinks")
    whole, less = (torchvision.datasets.ImageFolder(folder) for folder in (tmp_path / "root", path))
    assert less.class_to_idx == whole.class_to_idx
    assert [os.path.relpath(name, path) for name, _ in less.samples] == plan.keep().tolist()
    assert (path / "ant" / "003.png").is_symlink()
    assert open_data(path).ids.tolist() == plan.keep().tolist()
    with pytest.raises(BadInput, match="overwrite"):
        export(plan, data, path, "symlinks")
    export(plan_of(data, ["ant/000.png", "bee/001.png", "cat/002.png"]), data, path, "symlinks", overwrite=True)
    assert open_data(path).ids.tolist() == ["ant/000.png", "bee/001.png", "cat/002.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["less", "root"]


def test_a_class_that_is_gone_is_said_and_keeps_its_folder(tmp_path):
    data = open_data(made.image_folder(tmp_path / "root"))
    with pytest.warns(UserWarning, match="bee"):
        path = export(plan_of(data, ["ant/003.png", "cat/008.png"]), data, tmp_path / "less", "symlinks")
    assert sorted(p.name for p in path.iterdir()) == ["ant", "bee", "cat"]


def test_nothing_is_overwritten_or_half_written(photos, tmp_path):
    plan = plan_of(photos, KEPT)
    path = tmp_path / "ids.txt"
    path.write_text("mine")
    with pytest.raises(BadInput, match="overwrite"):
        export(plan, photos, path)
    assert path.read_text() == "mine"
    export(plan, photos, path, overwrite=True)
    made.broken_parquet(tmp_path / "t.parquet")
    broken = open_data(tmp_path / "t.parquet")
    with pytest.raises(CorruptFile):
        export(plan_of(broken, ["t.parquet:0", "t.parquet:5"]), broken, tmp_path / "rows.parquet", "parquet")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ids.txt", "t.parquet"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError):
        export(plan, photos, tmp_path / "file" / "x.parquet", "parquet")


def test_wrong_rows_are_refused(photos, tmp_path):
    plan = plan_of(photos, KEPT)
    with pytest.raises(IdMismatch):
        export(plan, photos.subset(["t.parquet:2"]), tmp_path / "x.txt")
    (tmp_path / "pins.txt").write_text("t.parquet:1\n\nt.parquet:99\n")
    with pytest.raises(IdMismatch, match="99"):
        read_ids(tmp_path / "pins.txt", like=photos)
    (tmp_path / "pins.txt").write_text("007\n7\n")
    assert read_ids(tmp_path / "pins.txt").tolist() == ["007", "7"]
    with pytest.raises(IdMismatch, match="007"):
        read_ids(tmp_path / "pins.txt", like=np.arange(9))
    assert read_ids(tmp_path / "pins.txt", like=np.array(["007", "7", "x"])).tolist() == ["007", "7"]


def test_files_without_ids(tmp_path):
    with pytest.raises(BadInput, match="no file"):
        read_ids(tmp_path / "absent.txt")
    pq.write_table(pa.table({"a": [1], "b": [2]}), tmp_path / "t.parquet")
    with pytest.raises(UnknownName):
        read_ids(tmp_path / "t.parquet")
    np.save(tmp_path / "t.npy", np.eye(2))
    with pytest.raises(CorruptFile):
        read_ids(tmp_path / "t.npy")
    (tmp_path / "t.txt").write_text("")
    assert read_ids(tmp_path / "t.txt").size == 0


def weighed(data: Dataset, kept: list) -> Plan:
    plan = plan_of(data, kept)
    weights = np.linspace(0.5, 1.5, len(kept)).astype(np.float32)
    return replace(plan, weights={"rows": weights})


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_loss_weights_stand_beside_the_ids(photos, tmp_path, kind):
    plan = weighed(photos, KEPT)
    path = export(plan, None, tmp_path / f"ids.{kind}", kind)
    table = open_data(path)
    assert table.ids.tolist() == plan.keep().tolist()
    np.testing.assert_allclose(table.loss_weights, plan.weights["rows"])
    dropped = export(plan, None, tmp_path / f"gone.{kind}", kind, which="dropped")
    assert open_data(dropped).loss_weights is None


def test_loss_weights_travel_with_the_rows(photos, tmp_path):
    plan = weighed(photos, KEPT)
    path = export(plan, photos, tmp_path / "kept.parquet", "parquet")
    again = open_data(path)
    np.testing.assert_array_equal(again.loss_weights, plan.loss_weights(again.ids))
    features = json.loads(pq.read_schema(path).metadata[b"huggingface"])["info"]["features"]
    assert features["prunus_weight"] == {"dtype": "float32", "_type": "Value"}
    fewer = weighed(again, again.ids[:2].tolist())  # new weights take the place of the old ones
    twice = open_data(export(fewer, again, tmp_path / "less.parquet", "parquet"))
    np.testing.assert_array_equal(twice.loss_weights, fewer.loss_weights(twice.ids))
    unweighted = open_data(export(plan_of(again, KEPT[:2]), again, tmp_path / "same.parquet", "parquet"))
    np.testing.assert_array_equal(unweighted.loss_weights, plan.loss_weights(unweighted.ids))


def test_loss_weights_of_arrays_and_json_lines(tmp_path):
    arrays = Dataset({"x": np.eye(5, dtype=np.float32), "y": np.arange(5)})
    again = open_data(export(weighed(arrays, [4, 0]), arrays, tmp_path / "kept.npz", "npz"))
    assert again.ids.tolist() == [0, 4] and again.loss_weights.tolist() == [0.5, 1.5]
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n{"b": 2}\n')
    lines = open_data(tmp_path / "t.jsonl")
    path = export(weighed(lines, ["t.jsonl:1"]), lines, tmp_path / "kept.jsonl", "jsonl")
    assert json.loads(path.read_text()) == {"b": 2, "prunus_id": "t.jsonl:1", "prunus_weight": 0.5}
