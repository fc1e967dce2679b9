"""Near duplicates: images by a difference hash, texts by MinHash. An option of `check`, off by default."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from prunus.core.errors import require

BITS = 3
"""Images count as near when at most so many of 64 bits differ."""
BUCKET = 2000
"""Larger buckets (blank images) are compared with their first row only, so that work stays linear."""


def sketch_of(text_threshold: float = 0.8) -> Callable[[Any], Any]:
    """A function of one cell: a 64-bit number for pixels `[channels, h, w]`, a MinHash for text."""
    datasketch: Any = None

    def sketch(cell: Any) -> Any:
        nonlocal datasketch
        if not isinstance(cell, str):
            return difference_hash(cell)
        if datasketch is None:
            datasketch = require("datasketch", "data")
        words = re.findall(r"\w+", cell.lower())
        shingles = {" ".join(words[i : i + 3]) for i in range(max(len(words) - 2, 1))}
        found = datasketch.MinHash(num_perm=64, seed=1)
        found.update_batch([shingle.encode() for shingle in sorted(shingles)])
        return found

    return sketch


def difference_hash(pixels: np.ndarray) -> int:
    """64 bits: whether each of 8 x 8 cells is brighter than its right neighbour, after shrinking to 8 x 9 means."""
    grey = pixels.astype(np.float32).mean(0)
    rows, columns = (np.linspace(0, side, parts + 1).round().astype(int) for side, parts in zip(grey.shape, (8, 9)))
    if min(grey.shape) < 9:
        grey = np.kron(grey, np.ones((9, 9), dtype=np.float32))
        rows, columns = rows * 9, columns * 9
        rows, columns = (np.linspace(0, side, parts + 1).round().astype(int) for side, parts in zip(grey.shape, (8, 9)))
    sums = np.add.reduceat(np.add.reduceat(grey, rows[:-1], axis=0), columns[:-1], axis=1)
    means = sums / np.outer(np.diff(rows), np.diff(columns))
    # Steps of less than one grey level are noise of the encoder.
    bits = (means[:, :-1] > means[:, 1:] + 1.0).reshape(-1)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near_groups(sketches: Mapping[int, Any], *, threshold: float = 0.8) -> list[list[int]]:
    """Positions that are near each other, chained: image hashes within 3 bits, texts with Jaccard above `threshold`."""
    images = {place: value for place, value in sketches.items() if isinstance(value, int)}
    texts = {place: value for place, value in sketches.items() if not isinstance(value, int)}
    return sorted(_chained(_image_pairs(images)) + _chained(_text_pairs(texts, threshold)))


def _image_pairs(hashes: Mapping[int, int]) -> list[tuple[int, int]]:
    """Pairs within 3 bits: of four 16-bit parts at least one is then equal."""
    pairs: set[tuple[int, int]] = set()
    for part in range(4):
        buckets: dict[int, list[int]] = defaultdict(list)
        for place, value in hashes.items():
            buckets[(value >> (16 * part)) & 0xFFFF].append(place)
        for bucket in buckets.values():
            firsts = bucket if len(bucket) <= BUCKET else bucket[:1]
            pairs |= {pair for first in firsts for pair in _close(first, bucket, hashes)}
    return sorted(pairs)


def _close(first: int, bucket: list[int], hashes: Mapping[int, int]) -> list[tuple[int, int]]:
    return [(first, place) for place in bucket if place > first and (hashes[first] ^ hashes[place]).bit_count() <= BITS]


def _text_pairs(sketches: Mapping[int, Any], threshold: float) -> list[tuple[int, int]]:
    if not sketches:
        return []
    index = require("datasketch", "data").MinHashLSH(threshold=threshold, num_perm=64)
    pairs: list[tuple[int, int]] = []
    for place, value in sorted(sketches.items()):
        near = [other for other in index.query(value) if sketches[other].jaccard(value) >= threshold]
        pairs += [(min(near), place)] if near else []
        index.insert(place, value)
    return pairs


def _chained(pairs: list[tuple[int, int]]) -> list[list[int]]:
    """Connected groups."""
    root: dict[int, int] = {}

    def find(place: int) -> int:
        while root.setdefault(place, place) != place:
            root[place] = root[root[place]]
            place = root[place]
        return place

    for first, second in pairs:
        low, high = sorted((find(first), find(second)))
        root[high] = low
    groups: dict[int, list[int]] = defaultdict(list)
    for place in sorted(root):
        groups[find(place)].append(place)
    return list(groups.values())
