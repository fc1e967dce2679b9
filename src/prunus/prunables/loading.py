"""Columns of a batch to model inputs: images decoded, numbers joined; what can't be read is named by id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.core.errors import BadInput, CorruptFile, ResourceError
from prunus.prunables.images import Preprocess, Unreadable, is_image

if TYPE_CHECKING:
    import torch

    from prunus.prunables.backings import Backing


def inputs_of(columns: Sequence[Any], ids: np.ndarray, preprocess: Preprocess | None, name: str) -> Any:
    """The model's input of one batch.

    Args:
        columns: one column, or several numeric ones that become `[b, k]`.
        ids: of these rows.
        preprocess: applied to images: bytes and PIL images always, uint8 tensors when given.
        name: of the dataset.

    Returns:
        A tensor, or a list where rows have several shapes or are text.
    """
    if len(columns) > 1:
        return joined(columns, name)
    return _input(columns[0], ids, preprocess)


def _input(values: Any, ids: np.ndarray, preprocess: Preprocess | None) -> Any:
    import torch

    if isinstance(values, torch.Tensor):
        if values.dtype == torch.uint8 and preprocess is not None:
            return preprocess.tensor(values)
        return values.to(torch.float32) if values.dtype == torch.float64 else values
    if len(values) and is_image(values[0]):
        process = preprocess or Preprocess()
        return process.tensor(torch.from_numpy(stack_pixels(values, ids, process)))
    return values


def joined(columns: Sequence[Any], name: str) -> torch.Tensor:
    """float32 `[b, k]` of k numeric columns."""
    import torch

    odd = [place for place, values in enumerate(columns) if not isinstance(values, torch.Tensor)]
    if odd:
        raise BadInput(f"input columns {odd} of {name} are not numbers; only numeric columns can be joined")
    return torch.cat([values.to(torch.float32).reshape(len(values), -1) for values in columns], dim=1)


def stack_pixels(values: Sequence[Any], ids: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """uint8 `[b, channels, height, width]`.

    Raises:
        CorruptFile: rows that can't be decoded, by id.
        BadInput: images of several sizes and no `size`.
    """
    arrays: list[np.ndarray] = []
    broken: list[str] = []
    for id_, value in zip(ids.tolist(), values):
        try:
            arrays.append(preprocess.pixels(value))
        except Unreadable as error:
            broken.append(f"{id_!r} ({error})")
    if broken:
        raise CorruptFile(
            f"{len(broken)} rows can't be decoded: {'; '.join(broken[:5])}. "
            "`prunus check` lists all; quarantine=True leaves them out"
        )
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        sizes = ", ".join(f"{h}x{w}" for _, h, w in sorted(shapes)[:4])
        raise BadInput(f"images of one batch have sizes {sizes}: give size= to bring them to one")
    return np.stack(arrays)


def table_values(rows: dict[str, Any], ids: np.ndarray, preprocess: Preprocess | None) -> dict[str, Any]:
    """A dict batch: image columns decoded, everything else as it is."""
    out: dict[str, Any] = {}
    for name, values in rows.items():
        image = isinstance(values, list) and bool(values) and isinstance(values[0], dict) and is_image(values[0])
        out[name] = _input(values, ids, preprocess) if image else values
    return out


def decoded(
    backing: Backing,
    columns: Sequence[str],
    ids: np.ndarray,
    preprocess: Preprocess,
    *,
    max_ram: int,
    progress: Callable[[int, int], None] | None,
    name: str,
) -> torch.Tensor:
    """Every image of a backing as uint8 `[n, channels, height, width]`; memory: that many bytes."""
    import torch

    if len(columns) != 1:
        raise BadInput(f"{name} has {len(columns)} input columns; only one image column can be cached")
    out: np.ndarray | None = None
    for start in range(0, len(ids), 512):
        places = np.arange(start, min(start + 512, len(ids)))
        rows = backing.rows(places, columns if backing.names() else None)
        if columns[0] not in rows:
            raise BadInput(f"{name} has no image column to cache: pass image= or x=")
        pixels = _pixels(rows[columns[0]], ids[places], preprocess, name)
        if out is None:
            need = len(ids) * pixels[0].nbytes
            if need > max_ram:
                raise ResourceError(
                    f"caching {name} needs {need / 2**30:.1f} GiB, max_ram is {max_ram / 2**30:.1f}: give size="
                )
            out = np.empty((len(ids), *pixels.shape[1:]), dtype=np.uint8)
        if pixels.shape[1:] != out.shape[1:]:
            raise BadInput(f"images of {name} have sizes {out.shape[2:]} and {pixels.shape[2:]}: give size=")
        out[start : start + len(places)] = pixels
        if progress is not None:
            progress(start + len(places), len(ids))
    return torch.from_numpy(out if out is not None else np.empty((0, 3, 1, 1), dtype=np.uint8))


def _pixels(values: Any, ids: np.ndarray, preprocess: Preprocess, name: str) -> np.ndarray:
    import torch

    if not isinstance(values, torch.Tensor):
        return stack_pixels(values, ids, preprocess)
    if values.dtype != torch.uint8 or values.ndim != 4:
        raise BadInput(
            f"the input of {name} is {values.dtype} {list(values.shape)}, not encoded images or uint8 [n, c, h, w]"
        )
    size = preprocess.size
    if size is None or values.shape[-2:] == (size, size):
        return values.numpy()
    if values.shape[-2] % size or values.shape[-1] % size:
        raise BadInput(
            f"uint8 images of {tuple(values.shape[-2:])} can be cached at whole fractions of their size, not at {size}"
        )
    pooled = torch.nn.functional.adaptive_avg_pool2d(values.float(), size)
    return pooled.round().to(torch.uint8).numpy()
