"""Dataset: ids, labels, roles, batches and cuts over everything it wraps."""

from __future__ import annotations

import io

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from PIL import Image

from prunus.core.budget import Budget
from prunus.core.errors import (
    BadInput,
    CorruptFile,
    FingerprintMismatch,
    IdMismatch,
    ResourceError,
    SplitError,
    UnknownName,
)
from prunus.core.plan import Kept, Plan
from prunus.core.prunable import Prunable
from prunus.prunables.dataset import Dataset, require_role

N = 12
X = np.arange(N * 3, dtype=np.float64).reshape(N, 3)
Y = np.arange(N) % 3
NAMES = np.array([f"r{i:02d}" for i in range(N)])


def png(value: int, size: tuple[int, int] = (4, 4)) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, (value, 0, 255 - value)).save(sink, "PNG")
    return sink.getvalue()


def rows() -> list[dict]:
    return [{"id": f"r{i:02d}", "a": float(i), "label": ["cat", "ant", "dog"][i % 3]} for i in range(N)]


def plan_of(data: Dataset, kept: list, fingerprint: str = "") -> Plan:
    groups = {"rows": Kept.of_ids(np.array(kept), len(data), data.ids)}
    return Plan("rows", groups, Budget.parse(f"{len(kept)} rows"), {}, fingerprint=fingerprint)


class Squares(torch.utils.data.Dataset):
    """Items made when asked for, labels not known beforehand."""

    def __init__(self) -> None:
        self.asked = 0

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int):
        self.asked += 1
        return torch.full((2,), float(i)), int(i) % 2


def test_is_a_prunable():
    assert isinstance(Dataset((X, Y)), Prunable)


@pytest.mark.parametrize(
    ("data", "options", "kind"),
    [
        ((X, Y), {}, tuple),
        (X, {}, np.ndarray),
        (torch.from_numpy(X), {"labels": Y}, tuple),
        ({"x": X, "y": Y, "extra": list(range(N))}, {}, dict),
        (torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), {}, torch.utils.data.TensorDataset),
        (Squares(), {}, torch.utils.data.Subset),
        (rows(), {"ids": "id", "x": "a", "label": "label"}, list),
        (pl.DataFrame(rows()), {"ids": "id", "x": "a", "label": "label"}, pl.DataFrame),
        (pd.DataFrame(rows()), {"ids": "id", "x": "a", "label": "label"}, pd.DataFrame),
        (pa.Table.from_pylist(rows()), {"ids": "id", "x": "a", "label": "label"}, pa.Table),
        (datasets.Dataset.from_list(rows()), {"ids": "id", "x": "a", "label": "label"}, datasets.Dataset),
    ],
    ids=lambda value: type(value).__name__,
)
def test_take_gives_back_the_kind_that_was_given(data, options, kind):
    wrapped = Dataset(data, options.pop("labels", None), **options)
    ids = wrapped.ids[[7, 2]]
    taken = wrapped.take(ids)
    assert isinstance(taken, kind)
    again = Dataset(taken, **{k: v for k, v in options.items() if k != "labels"})
    assert len(again) == 2
    (_, want, _), (_, got, _) = next(wrapped.batches(2, ids=ids)), next(again.batches(2))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("data", [(X, Y), pl.DataFrame(rows()), Squares()], ids=["arrays", "polars", "torch"])
def test_a_plan_gives_back_what_was_given(data):
    wrapped = Dataset(data)
    kept = plan_of(wrapped, [1, 4, 9]).apply(data)
    assert type(kept) is (torch.utils.data.Subset if isinstance(data, Squares) else type(data))
    assert len(kept[0] if isinstance(kept, tuple) else kept) == 3
    assert isinstance(plan_of(wrapped, [1, 4, 9]).apply(wrapped), Dataset)


def test_apply_keeps_the_order_of_the_data_and_the_ids():
    order = np.random.Generator(np.random.PCG64(0)).permutation(N)
    data = Dataset((X[order], Y[order]), ids=NAMES[order])
    kept = data.apply(plan_of(data, ["r03", "r10", "r00"]))
    assert kept.ids.tolist() == [i for i in NAMES[order].tolist() if i in ("r03", "r10", "r00")]
    assert kept.labels.tolist() == [int(i[1:]) % 3 for i in kept.ids]


def test_a_plan_for_other_rows_is_refused():
    data, other = Dataset((X, Y), ids=NAMES), Dataset((X, Y))
    plan = plan_of(data, ["r01"], data.fingerprint())
    with pytest.raises(FingerprintMismatch):
        other.apply(plan)
    with pytest.raises(IdMismatch, match="r01"):
        data.subset(["r00"]).apply(plan_of(data, ["r01"]))
    with pytest.raises(BadInput, match="mask"):
        data.apply(plan, mode="mask")


def test_duplicate_ids_are_named():
    with pytest.raises(BadInput, match="r05"):
        Dataset((X, Y), ids=[*NAMES[:-1], "r05"])
    with pytest.raises(BadInput, match="unique"):
        Dataset((X, Y)).subset([1, 1])
    for wrong in (np.arange(N) / 2, NAMES[:3], [None, *NAMES[1:]]):
        with pytest.raises(BadInput):
            Dataset((X, Y), ids=wrong)


def test_missing_ids_and_wrong_type_of_ids():
    data = Dataset((X, Y), ids=NAMES)
    with pytest.raises(IdMismatch, match="zz"):
        data.take(["r01", "zz"])
    with pytest.raises(IdMismatch, match="int64"):
        data.take([1])


def test_unknown_columns_name_the_nearest():
    with pytest.raises(UnknownName, match="label"):
        Dataset(pl.DataFrame(rows()), label="lable")
    with pytest.raises(UnknownName):
        Dataset(pl.DataFrame(rows()), ids="ids_")


def test_batches_of_arrays_are_tensors():
    data = Dataset((X, Y), ids=NAMES)
    ids, x, y = next(data.batches(5))
    assert ids.tolist() == NAMES[:5].tolist()
    assert (x.dtype, y.dtype, x.shape) == (torch.float32, torch.int64, (5, 3))
    assert [len(b[0]) for b in data.batches(5)] == [5, 5, 2]
    assert [len(b[0]) for b in data.batches(5, drop_last=True)] == [5, 5]
    assert next(Dataset(X).batches(2))[2] is None


def test_dict_batches_carry_ids():
    batch = next(Dataset({"input_ids": X.astype(np.int64), "text": NAMES}).batches(2))
    assert batch["ids"].tolist() == [0, 1]
    assert batch["input_ids"].shape == (2, 3)
    assert batch["text"] == ["r00", "r01"]


def test_shuffling_depends_on_ids_seed_and_epoch_only():
    order = np.random.Generator(np.random.PCG64(1)).permutation(N)
    one, other = Dataset((X, Y), ids=NAMES), Dataset((X[order], Y[order]), ids=NAMES[order])

    def seen(data, **options):
        return [i for batch in data.batches(5, **options) for i in batch[0].tolist()]

    assert seen(one, seed=3) == seen(other, seed=3)
    assert sorted(seen(one, seed=3)) == NAMES.tolist()
    assert seen(one, seed=3) != seen(one, seed=4)
    assert seen(one, seed=3) != seen(one, seed=3, epoch=1)
    assert seen(one, ids=["r03", "r03", "r01"]) == ["r03", "r03", "r01"]
    assert sorted(seen(one, ids=["r03", "r03", "r01"], seed=0)) == ["r01", "r03", "r03"]
    assert seen(one, ids=["r05", "r07"], seed=2) == seen(one, ids=["r07", "r05"], seed=2)


def test_weights_draw_rows_in_proportion():
    data = Dataset((np.zeros((4000, 1)), np.zeros(4000, dtype=int)))
    weights = np.where(np.arange(4000) < 1000, 3.0, 1.0)
    weights[-1] = 0
    drawn = np.concatenate([b[0] for b in data.batches(500, seed=0, weights=weights)])
    assert len(drawn) == 4000
    assert abs((drawn < 1000).mean() - 0.5) < 0.04
    assert 3999 not in drawn
    for bad in (np.zeros(4000), -weights, weights[:5], weights * np.nan):
        with pytest.raises(BadInput):
            next(data.batches(2, seed=0, weights=bad))
    with pytest.raises(BadInput, match="seed"):
        next(data.batches(2, weights=weights))


def test_no_global_generator_is_touched():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    data = Dataset((X, Y))
    list(data.batches(3, seed=1))
    data.split(0.3)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


def test_text_labels_are_numbered_and_given_classes_hold():
    data = Dataset(pl.DataFrame(rows()), x="a", label="label")
    assert data.classes == ("ant", "cat", "dog")
    assert data.labels[:3].tolist() == [1, 0, 2]
    assert data.subset([0, 3]).labels.tolist() == [1, 1]
    test = Dataset(pl.DataFrame(rows()[:1]), x="a", label="label", classes=data.classes, role="test")
    assert test.labels.tolist() == [1]
    with pytest.raises(BadInput, match="dog"):
        Dataset(pl.DataFrame(rows()), x="a", label="label", classes=("ant", "cat"))


def test_missing_labels_are_named():
    table = rows()
    table[4]["label"] = None
    with pytest.raises(BadInput, match="r04"):
        Dataset(pl.DataFrame(table), ids="id", label="label")
    with pytest.raises(BadInput, match="one length"):
        Dataset(X, [1, 2, 3])
    with pytest.raises(BadInput, match="12 rows but 3"):
        Dataset(pl.DataFrame(rows()), [1, 2, 3])
    with pytest.raises(BadInput, match="finite"):
        Dataset(X, [float("nan"), *range(N - 1)])


def test_torch_labels_found_or_read_once():
    data = Squares()
    wrapped = Dataset(data)
    assert data.asked == 0
    assert wrapped.labels.tolist() == [i % 2 for i in range(N)]
    assert data.asked == N
    subset = torch.utils.data.Subset(torch.utils.data.TensorDataset(torch.rand(6, 2), torch.arange(6)), [4, 1])
    assert Dataset(subset).labels.tolist() == [4, 1]
    both = torch.utils.data.ConcatDataset([subset, subset])
    assert Dataset(both).labels.tolist() == [4, 1, 4, 1]
    assert Dataset(Squares())[3][1] == 1


def test_streams_are_refused():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield 1

    with pytest.raises(BadInput, match="Stream"):
        Dataset(Stream())
    with pytest.raises(BadInput, match="path"):
        Dataset("train.parquet")
    with pytest.raises(BadInput, match="splits"):
        Dataset(datasets.DatasetDict({"a": datasets.Dataset.from_list(rows())}))
    with pytest.raises(BadInput, match="one length"):
        Dataset((X, Y[:4]))


def test_several_numeric_columns_are_joined():
    table = pl.DataFrame({"a": [1, 2], "b": [0.5, None], "s": ["u", "v"]})
    x = next(Dataset(table, x=["a", "b"]).batches(2))[1]
    assert x[0].tolist() == [1.0, 0.5]
    assert torch.isnan(x[1, 1])
    with pytest.raises(BadInput, match="numbers"):
        next(Dataset(table, x=["a", "s"]).batches(2))


def test_a_second_split_gets_its_share_too():
    fit, test = Dataset((np.zeros((1000, 1)), np.zeros(1000, dtype=int))).split(0.25, "test")
    fit, val = fit.split(0.2, "val")
    assert 100 < len(val) < 200
    assert len(fit) + len(val) + len(test) == 1000


def test_split_is_by_id_and_stable_when_rows_are_added():
    many = Dataset((np.zeros((1000, 1)), np.zeros(1000, dtype=int)))
    fit, val = many.split()
    assert 60 < len(val) < 140
    assert (fit.role, val.role) == ("fit", "val")
    assert not set(fit.ids) & set(val.ids)
    more = Dataset((np.zeros((1200, 1)), np.zeros(1200, dtype=int))).split()[1]
    assert set(val.ids) == {i for i in more.ids.tolist() if i < 1000}
    assert many.split(seed=1)[1].ids.tolist() != val.ids.tolist()
    tiny = Dataset((X[:2], Y[:2])).split(0.01)
    assert [len(part) for part in tiny] == [1, 1]
    for bad in (0.0, 1.0):
        with pytest.raises(BadInput):
            many.split(bad)


def test_roles_guard_the_test_set_and_reads_are_counted():
    data = Dataset((X, Y), role="test")
    with pytest.raises(SplitError, match="calibration"):
        require_role(data, {"fit", "val"}, what="calibration")
    with pytest.raises(SplitError):
        data.split()
    with pytest.raises(SplitError):
        data.with_role("fit")
    require_role(Dataset((X, Y), role="train"), {"fit"}, what="fitting")
    require_role(X, {"fit"}, what="fitting")
    with pytest.raises(UnknownName):
        Dataset((X, Y), role="tset")
    list(data.batches(5))
    list(data.subset([1, 2]).batches(2))
    data[0]
    assert (data.reads.passes, data.reads.rows) == (3, N + 3)


def test_groups_and_cost():
    data = Dataset((X, Y), by="class", classes=("a", "b", "c"))
    assert [(g.name, g.unit, g.size) for g in data.groups()] == [(f"rows/{c}", "rows", 4) for c in "abc"]
    assert [g.size for g in data.groups(by="all")] == [N]
    assert data.cost() == {"rows": 12.0}
    assert data.cost(plan_of(data, [1, 2])) == {"rows": 2.0}
    with pytest.raises(BadInput):
        data.groups("channels")
    with pytest.raises(BadInput, match="labels"):
        Dataset(X, by="class").groups()


def test_fingerprints_follow_content_ids_and_labels():
    base = Dataset((X, Y)).fingerprint()
    changed = X.copy()
    changed[3, 1] += 1e-9
    assert Dataset((X, Y)).fingerprint() == base
    different = [
        Dataset((changed, Y)),
        Dataset((X, Y[::-1].copy())),
        Dataset((X, Y), ids=NAMES),
        Dataset((X, Y)).subset([1, 2]),
        Dataset((X.astype(np.float32), Y)),
    ]
    assert len({base, *(d.fingerprint() for d in different)}) == 6
    table = pl.DataFrame(rows())
    assert Dataset(table).fingerprint() == Dataset(pl.concat([table[:5], table[5:]], rechunk=False)).fingerprint()
    assert Dataset((X, Y)).with_role("val").fingerprint() == base


def test_what_can_not_be_cached_says_so():
    closure = Dataset((X, Y), transform=lambda x: x + 1)
    assert "transform_id" in closure.uncached
    with pytest.warns(UserWarning, match="cached"):
        closure.fingerprint()
    named = Dataset((X, Y), transform=lambda x: x + 1, transform_id="plus-one/1")
    assert named.uncached is None
    assert named.preprocess_id == "none+plus-one/1"
    assert next(named.batches(1))[1][0, 0] == 1
    assert "content_id" in Dataset(Squares()).uncached
    assert Dataset(Squares(), content_id="squares/1").uncached is None
    assert Dataset(torch.utils.data.TensorDataset(torch.rand(3, 1), torch.arange(3))).uncached is None


def images(values: list, **options) -> Dataset:
    return Dataset(pa.table({"image": values, "label": list(range(len(values)))}), x="image", label="label", **options)


def test_images_are_decoded_when_read():
    data = images([{"bytes": png(10 * i), "path": None} for i in range(4)])
    _, x, y = next(data.batches(4))
    assert x.shape == (4, 3, 4, 4)
    assert x[2, 0, 0, 0] == pytest.approx(20 / 255)
    assert y.tolist() == [0, 1, 2, 3]
    image, label = data[1]
    assert image.shape == (3, 4, 4)
    assert label == 1


def test_unreadable_images_are_named_by_id():
    data = images([png(1), b"junk", png(2)[:40], None], ids=["a", "b", "c", "d"])
    with pytest.raises(CorruptFile, match=r"3 rows.*'b'.*'c'.*'d'"):
        next(data.batches(4))
    assert next(data.subset(["a"]).batches(1))[1].shape == (1, 3, 4, 4)


def test_images_of_several_sizes_need_a_size():
    data = images([png(1, (4, 4)), png(2, (8, 6))])
    with pytest.raises(BadInput, match="size="):
        next(data.batches(2))
    assert next(data.with_preprocess(size=2).batches(2))[1].shape == (2, 3, 2, 2)


def test_cache_decodes_once_and_pools():
    pixels = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    blobs = []
    for picture in pixels:
        sink = io.BytesIO()
        Image.fromarray(picture).save(sink, "PNG")
        blobs.append(sink.getvalue())
    data = images(blobs, ids=["a", "b", "c", "d", "e"])
    cached = data.cache(4)
    want = pixels.reshape(5, 4, 2, 4, 2, 3).astype(float).mean((2, 4)).transpose(0, 3, 1, 2)
    got = next(cached.batches(5))[1].numpy() * 255
    assert np.abs(got - want).max() <= 0.51
    assert cached.ids.tolist() == data.ids.tolist()
    assert cached.fingerprint() == data.fingerprint()
    assert cached.preprocess_id != data.preprocess_id
    assert cached.subset(["d"]).fingerprint() == data.subset(["d"]).fingerprint()
    assert next(cached.subset(["d"]).batches(1))[2].tolist() == [3]
    with pytest.raises(ResourceError, match="max_ram"):
        data.cache(4, max_ram=10)
    with pytest.raises(BadInput, match="size"):
        images([png(1), png(2, (8, 8))]).cache()
    assert data.reads.passes == 2


def test_uint8_tensors_take_part_in_preprocessing_when_asked():
    pixels = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    assert next(Dataset((pixels, torch.zeros(6))).batches(2))[1].dtype == torch.uint8
    data = Dataset((pixels, torch.zeros(6))).with_preprocess()
    torch.testing.assert_close(next(data.batches(6))[1], pixels / 255)
    assert data.cache(4).backing.column("x").shape == (6, 3, 4, 4)


def test_detection_lists_stay_lists():
    class Boxes(torch.utils.data.Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, i):
            return torch.zeros(3, 4 + i, 5), {"boxes": torch.zeros(i, 4)}

    _, pictures, targets = next(Dataset(Boxes()).batches(3))
    assert [p.shape[1] for p in pictures] == [4, 5, 6]
    assert targets[2]["boxes"].shape == (2, 4)


def test_hugging_face_formats_are_respected():
    base = datasets.Dataset.from_list([{"a": i, "v": [i, i + 1]} for i in range(5)])
    batch = next(Dataset(base).batches(2))
    assert batch["v"].tolist() == [[0, 1], [1, 2]]
    doubled = base.with_transform(lambda rows: {"a": [2 * a for a in rows["a"]], "v": rows["v"]})
    wrapped = Dataset(doubled)
    assert "set_transform" in wrapped.uncached
    assert next(wrapped.batches(3))["a"].tolist() == [0, 2, 4]
    assert next(Dataset(base.with_format("torch")).batches(3))["a"].tolist() == [0, 1, 2]
