"""Randomness. Draws over units are keyed hashes of (seed, purpose, id): they do not depend on order, workers or blocks.

Nothing here reads or sets a global generator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunus.core.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    import torch


def _key(seed: int, purpose: str) -> tuple[int, int]:
    digest = hashlib.blake2b(f"{seed}\x00{purpose}".encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def _mix(x: np.ndarray) -> np.ndarray:
    """The splitmix64 finaliser, a bijection on 64 bits."""
    import numpy as np

    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _fold(ids: np.ndarray, key: int) -> np.ndarray:
    """64-bit words that identify the ids, mixed with `key`. Text ids do not depend on the padding of the array."""
    import numpy as np

    start = np.full(ids.shape, key, dtype=np.uint64)
    if ids.dtype.kind in "iu":
        return _mix(start ^ _mix(ids.astype(np.int64).view(np.uint64)))
    if ids.dtype.kind != "U":
        raise BadInput(f"ids must be integers or text, not {ids.dtype}")
    width = ids.dtype.itemsize // 4
    codes = np.ascontiguousarray(ids).view(np.uint32).reshape(ids.size, width).astype(np.uint64)
    for column in range(width):
        used = codes[:, column] != 0
        start[used] = _mix(start[used] ^ (codes[used, column] + np.uint64(1)))
    return start


def uniform(seed: int, purpose: str, ids: np.ndarray) -> np.ndarray:
    """One number in [0, 1) for each id, the same wherever and in whatever order it is asked for.

    Args:
        seed: any integer.
        purpose: what the draw is for; different purposes are independent.
        ids: int or unicode `[n]`.

    Returns:
        float64 `[n]`.
    """
    return _words(seed, purpose, ids).astype("float64") * 2.0**-53


def _words(seed: int, purpose: str, ids: np.ndarray) -> np.ndarray:
    """53 random bits for each id, uint64 `[n]`."""
    import numpy as np

    first, second = _key(seed, purpose)
    return _mix(_fold(np.asarray(ids), first) ^ np.uint64(second)) >> np.uint64(11)


def shuffled(seed: int, purpose: str, ids: np.ndarray) -> np.ndarray:
    """Positions in the order of `uniform`, ties by id; int64 `[n]`."""
    import numpy as np

    words, bits = _words(seed, purpose, ids), ids.size.bit_length()
    # Hash and position in one integer: sorting these takes half the time of an argsort.
    head = words >> np.uint64(max(53 + bits - 64, 0))
    packed = np.sort(head << np.uint64(bits) | np.arange(ids.size, dtype=np.uint64))
    head = packed >> np.uint64(bits)
    if (head[1:] == head[:-1]).any():  # what was cut off the hash, or the id, must decide
        return np.lexsort((ids, words))
    return (packed & np.uint64((1 << bits) - 1)).astype(np.int64)


def torch_rng(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator of its own for draws that are not over units (weights, augmentation)."""
    import torch

    return torch.Generator().manual_seed(_key(seed, purpose)[0] & (2**63 - 1))


def legacy_rng(seed: int) -> np.random.RandomState:
    """A legacy numpy generator of its own, as the global one is after `np.random.seed(seed)`; for parity with released code."""
    import numpy as np

    return np.random.RandomState(seed % 2**32)


@contextmanager
def torch_fork(seed: int, purpose: str) -> Iterator[None]:
    """Inside, layers that draw from torch's own generators (dropout, initialisation) draw from (seed, purpose).

    Outside, those generators are as they were, also after an error.
    """
    import torch

    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    state = torch_rng(seed, purpose)
    with torch.random.fork_rng(devices=list(devices)):
        torch.set_rng_state(state.get_state())
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(state.initial_seed())
        yield


@contextmanager
def draws_apart() -> Iterator[None]:
    """Whatever code that isn't ours draws inside comes from a fixed seed, and no generator of the user's notices."""
    import random

    import numpy as np

    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch_fork(0, "drawn by a model"):
            random.seed(0)
            np.random.seed(0)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@dataclass(frozen=True)
class Rng:
    """What a method is given as `rng`: a seed and a purpose."""

    seed: int
    purpose: str

    def uniform(self, ids: np.ndarray) -> np.ndarray:
        """float64 `[n]` in [0, 1), by id."""
        return uniform(self.seed, self.purpose, ids)

    def sample(self, ids: np.ndarray, count: int) -> np.ndarray:
        """Positions (sorted, int64) of `count` ids drawn without replacement: the smallest hashes, ties by id."""
        import numpy as np

        ids = np.asarray(ids)
        if not 0 <= count <= ids.size:
            raise BadInput(f"can't draw {count} of {ids.size} ids")
        if count == ids.size:
            return np.arange(count)
        keys = self.uniform(ids)
        last = np.partition(keys, count)[count]  # the smallest key that stays out
        inside, level = np.flatnonzero(keys < last), np.flatnonzero(keys == last)
        tied = level[np.argsort(ids[level], kind="stable")][: count - inside.size]
        return np.sort(np.concatenate([inside, tied]))

    def child(self, purpose: str) -> Rng:
        """An independent stream for a part of the work."""
        return Rng(self.seed, f"{self.purpose}/{purpose}")

    def integer(self) -> int:
        """A seed in 0..2^31 - 1 for a library that wants one."""
        return _key(self.seed, self.purpose)[0] & (2**31 - 1)

    def torch(self) -> torch.Generator:
        """A torch generator of this seed and purpose."""
        return torch_rng(self.seed, self.purpose)
