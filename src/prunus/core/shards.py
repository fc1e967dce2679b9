"""Row signals in the store, one entry for each 100,000 rows, so that appended rows cost only their own pass.

Where the cuts lie is remembered for each series (one signal of one growing data set): rows that come later make shards
of their own, and a shard whose rows changed is computed again without touching the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunus.core import files
from prunus.core.errors import BadInput, CorruptFile
from prunus.core.store import Entry, Store

SHARD = 100_000


@dataclass(frozen=True)
class Shard:
    """Rows `start` to `stop` and the key of their entry."""

    start: int
    stop: int
    key: str


def shards(
    store: Store,
    series: str,
    parts: Mapping[str, Any],
    count: int,
    fingerprint: Callable[[int, int], str],
    *,
    size: int = SHARD,
) -> list[Shard]:
    """Cut rows into shards, along earlier cuts where there are any.

    Args:
        store: where the cuts are remembered.
        series: a name of the data set that stays when it grows, such as its location.
        parts: what the signal is computed from, except the rows: names, versions, model, parameters.
        count: rows.
        fingerprint: identity of rows start..stop (their ids and contents, or their files).
        size: rows of a new shard at most.

    Returns:
        Shards in row order that cover 0..count.
    """
    if count < 1 or size < 1:
        raise BadInput(f"need at least one row and one row a shard, not {count} and {size}")
    memory = store.root / "series" / f"{files.digest({'series': series, **parts})}.json"
    earlier = _remembered(memory)
    stops = [stop for stop in earlier if stop <= count]
    new = [*range((stops[-1] if stops else 0) + size, count, size), count]
    stops += [stop for stop in new if not stops or stop > stops[-1]]
    files.write_json(memory, sorted({*earlier, *stops}))
    return [
        Shard(start, stop, files.digest({**parts, "rows": fingerprint(start, stop)}))
        for start, stop in itertools.pairwise([0, *stops])
    ]


def _remembered(path: Path) -> list[int]:
    if not path.exists():
        return []
    try:
        stops: Any = files.read_json(path)
        return sorted({int(stop) for stop in stops if int(stop) > 0})
    except (CorruptFile, TypeError, ValueError):  # only a memory: without it every row is in a new shard
        return []


def fill(
    store: Store,
    cuts: list[Shard],
    compute: Callable[[int, int, Path], None],
    *,
    parts: Mapping[str, Any] | None = None,
) -> list[Entry]:
    """The entries of all shards; only missing or broken ones are computed.

    Args:
        store: where they lie.
        cuts: from `shards`.
        compute: called with start, stop and an empty folder to fill.
        parts: kept in the manifests for people.
    """
    entries: list[Entry] = []
    for cut in cuts:
        facts = {**(parts or {}), "start": cut.start, "stop": cut.stop}
        entries.append(store.put(cut.key, lambda out, cut=cut: compute(cut.start, cut.stop, out), parts=facts))
    return entries
