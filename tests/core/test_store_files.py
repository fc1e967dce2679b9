"""Files: whole or not at all, always the same bytes, and never a broken one read."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from prunus.core import files
from prunus.core.errors import BadInput, CorruptFile, ResourceError
from prunus.core.tensor_file import read_header

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "ids": np.array(["x", "", "müller"]),
    "none": np.zeros((0, 3)),
    "scalar": np.array(2.5),
    "flags": np.array([True, False]),
    "big": np.arange(3, dtype=">i4"),
}


def test_arrays_come_back(tmp_path: Path) -> None:
    back = files.read_arrays(files.write_arrays(tmp_path / "a.safetensors", ARRAYS, {"z": "1", "b": "2"}))
    assert set(back) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].shape == array.shape
    back["a"][0, 0] = 9  # a private copy
    assert files.read_arrays(tmp_path / "a.safetensors", ("a",))["a"][0, 0] == 0
    assert list(files.read_arrays(tmp_path / "a.safetensors", ("ids",))) == ["ids"]


def test_the_library_reads_ours_and_we_read_theirs(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    plain = {name: array for name, array in ARRAYS.items() if name not in ("ids", "big")}
    files.write_arrays(tmp_path / "ours", plain, {"k": "v"})
    theirs = load_file(tmp_path / "ours")
    save_file(plain, tmp_path / "theirs", {"k": "v", "l": "w"})
    ours = files.read_arrays(tmp_path / "theirs")
    for name, array in plain.items():
        np.testing.assert_array_equal(theirs[name], array)
        np.testing.assert_array_equal(ours[name], array)
    assert read_header(tmp_path / "theirs").metadata == {"k": "v", "l": "w"}


def test_same_bytes_whatever_the_order(tmp_path: Path) -> None:
    one = files.write_arrays(tmp_path / "1", ARRAYS, {"a": "1", "b": "2"}).read_bytes()
    two = files.write_arrays(tmp_path / "2", dict(reversed(ARRAYS.items())), {"b": "2", "a": "1"}).read_bytes()
    assert one == two


def test_torch_tensors_come_back(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    given = {"w": torch.randn(3, 2).bfloat16(), "n": torch.tensor(3), "t": torch.arange(6.0).reshape(2, 3).t()}
    back = files.read_tensors(files.write_tensors(tmp_path / "m", given))
    assert all(torch.equal(back[name], tensor) and back[name].dtype == tensor.dtype for name, tensor in given.items())
    with pytest.raises(BadInput, match="read_tensors"):
        files.read_arrays(tmp_path / "m")


def test_every_truncation_is_found(tmp_path: Path) -> None:
    whole = files.write_arrays(tmp_path / "whole", {"a": np.arange(4.0), "b": np.ones(3, np.uint8)}).read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(CorruptFile):
            files.read_arrays(tmp_path / "cut")
    (tmp_path / "cut").write_bytes(whole + b"\0")
    with pytest.raises(CorruptFile):
        files.read_arrays(tmp_path / "cut")


def _file(path: Path, head: bytes, data: bytes = b"\0" * 16, length: int | None = None) -> Path:
    path.write_bytes((len(head) if length is None else length).to_bytes(8, "little") + head + data)
    return path


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (
            b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}',
            "twice",
        ),
        (
            b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[3],"data_offsets":[4,16]}}',
            "overlaps",
        ),
        (
            b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}',
            "hole",
        ),
        (b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,17]}}', "fill"),
        (b'{"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,-16]}}', "fill"),
        (b'{"a":{"dtype":"F32","shape":[true,4],"data_offsets":[0,16]}}', "fill"),
        (b'{"a":{"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,16]}}', "fill"),
        (b'{"a":{"dtype":"F99","shape":[4],"data_offsets":[0,16]}}', "can't be read"),
        (b'{"a":3}', "can't be read"),
        (b"[1]", "no table"),
        (b'{"a":' * 100_000, "broken"),
        (b'{"a":' + b"9" * 5000 + b"}", "broken"),
        (b"\xff\xfe", "broken"),
        (b'{"__metadata__":{"x":1}}', "metadata"),
    ],
)
def test_hostile_headers(tmp_path: Path, head: bytes, why: str) -> None:
    with pytest.raises(CorruptFile, match=why):
        files.read_arrays(_file(tmp_path / "bad", head))


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**9, 500])
def test_hostile_header_length(tmp_path: Path, length: int) -> None:
    with pytest.raises(CorruptFile, match="announces"):
        files.read_arrays(_file(tmp_path / "bad", b"{}", length=length))


def test_bad_values(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="object"):
        files.write_arrays(tmp_path / "x", {"o": np.array([{}], dtype=object)})
    for value in (float("nan"), {1, 2}, Path("x")):
        with pytest.raises(BadInput):
            files.dump_json(value)
    for read in (files.read_json, files.read_arrays):
        with pytest.raises(BadInput, match="no file"):
            read(tmp_path / "missing")
    (tmp_path / "half.json").write_text('{"a": 1')
    with pytest.raises(CorruptFile, match=r"half\.json"):
        files.read_json(tmp_path / "half.json")


def test_digest_ignores_key_order() -> None:
    assert files.digest({"a": 1, "b": [1.5, None]}) == files.digest({"b": [1.5, None], "a": 1})
    assert files.digest({"a": 1}) != files.digest({"a": "1"})


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> None:
    path = files.write_json(tmp_path / "a.json", {"old": 1})

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(ResourceError, match=r"a\.json"):
        files.write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_too_little_space_is_refused_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda folder: 10)
    with pytest.raises(ResourceError, match=r"disk full .*48 B needed\), 10 B free.*PRUNUS_CACHE"):
        files.write_bytes(tmp_path / "x", b"1" * 48)
    assert list(tmp_path.iterdir()) == []


def test_error_inside_the_block_leaves_nothing(tmp_path: Path) -> None:
    def half() -> None:
        with files.atomic(tmp_path / "x") as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        half()
    assert list(tmp_path.iterdir()) == []


def test_lines_survive_a_torn_tail(tmp_path: Path) -> None:
    path = tmp_path / "m" / "arm.jsonl"
    files.append_json(path, [{"a": 1}, {"a": 2}])
    with path.open("ab") as file:
        file.write(b'{"a": 3, "half')
    assert files.read_json_lines(path) == [{"a": 1}, {"a": 2}]
    files.append_json(path, [{"a": 4}])
    assert [row["a"] for row in files.read_json_lines(path)] == [1, 2, 4]
    path.write_bytes(b'{"a": \n{"a": 2}\n')
    with pytest.raises(CorruptFile, match="line 1"):
        files.read_json_lines(path)
    assert files.read_json_lines(tmp_path / "none.jsonl") == []
