"""Token windows of a text file: the rows that language models are calibrated and measured on.

A window is `length` consecutive tokens; windows do not overlap unless `stride` says so; the tail that does not fill
one is left out, so there is no padding. What was done is a record of hashes, which goes with every number made from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from prunus.core.errors import BadInput
from prunus.prunables.arrays import array_digest
from prunus.prunables.dataset import Dataset
from prunus.prunables.roles import Role
from prunus.sources.held import FileArrays
from prunus.sources.location import locate, readable


def open_text(
    spec: str,
    tokenizer: Any,
    *,
    length: int = 1024,
    tokens: int | None = None,
    skip: int = 0,
    stride: int | None = None,
    role: Role | str = "fit",
    limit: int | None = None,
    name: str = "",
) -> Dataset:
    """Windows of tokens. Batches are dicts of ids, input_ids and labels; labels equal input_ids (transformers shift).

    Args:
        spec: a path or fsspec URL of a UTF-8 text file, tokenised whole, without special tokens.
        tokenizer: of transformers or tokenizers.
        length: tokens in a window.
        tokens: use the first so many tokens only (after `skip`).
        skip: leave out so many tokens first.
        stride: from one window's start to the next; default `length`, no overlap.
        role: fit, val or test.
        limit: the first windows only.
        name: for reports.

    Raises:
        BadInput: the text is shorter than one window.
    """
    stride = length if stride is None else stride
    if length < 2 or stride < 1 or skip < 0 or (limit is not None and limit < 1):
        raise BadInput(
            f"length must be 2 or more, stride 1 or more, skip 0 or more: {length=}, {stride=}, {skip=}, {limit=}"
        )
    file = locate(spec)
    with readable(file, "UTF-8 text file"):
        text = file.read().decode("utf-8")
    ids = token_ids(tokenizer, text)
    chosen = ids[skip : None if tokens is None else skip + tokens]
    count = (len(chosen) - length) // stride + 1
    if count < 1:
        raise BadInput(
            f"{file.relative} has {len(ids)} tokens, {len(chosen)} of them chosen: less than one window of {length}"
        )
    count = count if limit is None else min(count, limit)
    places = np.arange(count)[:, None] * stride + np.arange(length)[None, :]
    windows = chosen[places]
    record = {
        "file": file.relative,
        "text": hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest(),
        "tokenizer": tokenizer_digest(tokenizer),
        "tokens": array_digest(chosen[: int(places.max()) + 1]),
        "count": int(places.max()) + 1,
        "length": length,
        "stride": stride,
        "skip": skip,
        "windows": count,
    }
    columns = {"input_ids": windows, "labels": windows.copy()}
    backing = FileArrays(columns, file, file.relative, record=record)
    return Dataset(backing, role=role, name=name or file.relative)


def text_record(data: Dataset) -> dict[str, Any]:
    """What was measured on: hashes of text, tokenizer and tokens; count, length, stride. For Results."""
    record = getattr(data.backing, "record", None)
    if record is None:
        raise BadInput(f"{data.name} was not opened by open_text")
    return {**record, "used_windows": len(data), "role": data.role}


def token_ids(tokenizer: Any, text: str) -> np.ndarray:
    """int64 token ids without special tokens, by a transformers or tokenizers tokenizer."""
    if hasattr(tokenizer, "backend_tokenizer"):  # transformers' fast ones: no warning about long texts this way
        found = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    elif hasattr(tokenizer, "get_vocab") and hasattr(tokenizer, "to_str"):
        found = tokenizer.encode(text, add_special_tokens=False).ids
    elif callable(tokenizer):
        called: Any = tokenizer(text, add_special_tokens=False)
        found = called["input_ids"]
    else:
        raise BadInput(f"{type(tokenizer).__name__} is no tokenizer: it can be neither called nor asked to encode")
    return np.asarray(found, dtype=np.int64)


def tokenizer_digest(tokenizer: Any) -> str:
    """blake2b of a tokenizer's full definition where it has one, else of its vocabulary."""
    inner = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if hasattr(inner, "to_str"):
        text = inner.to_str()
    elif hasattr(inner, "get_vocab"):
        text = json.dumps(sorted(inner.get_vocab().items()))
    else:
        text = f"{type(inner).__module__}.{type(inner).__qualname__}"
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest()


class ByteTokenizer:
    """UTF-8 bytes as tokens: 256 of them, no file, for small models trained from scratch."""

    vocab_size = 256

    def __call__(self, text: str, add_special_tokens: bool = False) -> dict[str, list[int]]:
        """input_ids of a text; there are no special tokens to add."""
        return {"input_ids": list(text.encode("utf-8"))}

    def decode(self, ids: Sequence[int]) -> str:
        """The text again; incomplete characters become replacement marks."""
        return bytes(int(token) for token in ids).decode("utf-8", "replace")
