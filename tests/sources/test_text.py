"""Token windows: which tokens, which ids, and the record of how they were made."""

from __future__ import annotations

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from prunus.core.errors import BadInput, CorruptFile, SplitError
from prunus.prunables.dataset import require_role
from prunus.sources.text import ByteTokenizer, open_text, text_record, token_ids

TEXT = "the cat sat on the mat and the dog sat on the cat again "


@pytest.fixture
def words():
    vocabulary = {word: i for i, word in enumerate(["[unk]", *dict.fromkeys(TEXT.split())])}
    found = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[unk]"))
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    return found


@pytest.fixture
def path(tmp_path):
    (tmp_path / "t.txt").write_text(TEXT * 4, "utf-8")
    return str(tmp_path / "t.txt")


def test_windows_are_consecutive_tokens_without_padding(path, words):
    data = open_text(path, words, length=8)
    tokens = token_ids(words, TEXT * 4)
    assert len(data) == len(tokens) // 8
    batch = next(data.batches(99))
    assert batch["input_ids"].reshape(-1).tolist() == tokens[: 8 * len(data)].tolist()
    assert batch["labels"].equal(batch["input_ids"])
    assert batch["ids"][:2].tolist() == ["t.txt:0", "t.txt:1"]


def test_first_tokens_skip_stride_and_limit(path, words):
    tokens = token_ids(words, TEXT * 4)
    assert len(open_text(path, words, length=8, tokens=20)) == 2
    moved = open_text(path, words, length=4, skip=3, stride=2, limit=3)
    assert next(moved.batches(9))["input_ids"].tolist() == [tokens[s : s + 4].tolist() for s in (3, 5, 7)]
    for bad in ({"length": 1}, {"length": 4, "stride": 0}, {"length": 4, "skip": -1}, {"length": 4, "limit": 0}):
        with pytest.raises(BadInput):
            open_text(path, words, **bad)
    with pytest.raises(BadInput, match="less than one window"):
        open_text(path, words, length=8, tokens=7)


def test_the_record_tells_two_protocols_apart(path, words, tmp_path):
    record = text_record(open_text(path, words, length=8, role="test"))
    assert (record["role"], record["length"], record["file"]) == ("test", 8, "t.txt")
    other = text_record(open_text(path, ByteTokenizer(), length=8))
    assert other["tokenizer"] != record["tokenizer"]
    assert other["text"] == record["text"]
    prints = {open_text(path, words, length=n).fingerprint() for n in (4, 8)}
    assert len(prints) == 2
    assert open_text(path, words, length=8).fingerprint() in prints
    subset = open_text(path, words, length=8).subset(["t.txt:1"])
    assert text_record(subset)["used_windows"] == 1
    assert next(subset.batches(1))["ids"].tolist() == ["t.txt:1"]


def test_roles_are_typed(path, words):
    with pytest.raises(SplitError):
        require_role(open_text(path, words, length=8, role="test"), {"fit"}, what="calibration")


def test_bytes_and_bad_input(tmp_path, path):
    tokenizer = ByteTokenizer()
    assert tokenizer.decode(tokenizer("naïve")["input_ids"]) == "naïve"
    with pytest.raises(BadInput, match="tokenizer"):
        open_text(path, 3, length=4)
    (tmp_path / "b.txt").write_bytes(b"\xff\xff")
    with pytest.raises(CorruptFile, match="UTF-8"):
        open_text(str(tmp_path / "b.txt"), tokenizer, length=4)
