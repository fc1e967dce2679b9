"""Splicing T visual tokens into a prompt: placeholders, attention mask, labels and positions change together.

Two layouts are read: one placeholder per image (`run=1`, the prompt grows) and N placeholders per image (`run=N`, as
transformers 5 processors write; the prompt shrinks). Padding is taken off and put back after pruning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from prunus.core.errors import BadInput

Positions = Literal["restart", "gaps"]
IGNORE = -100


@dataclass(frozen=True)
class Prompt:
    """A batch of prompts. All `[B, S]`; padded places have mask 0, position 0 and label -100."""

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    labels: Tensor | None = None


def resize_images(
    input_ids: Tensor,
    placeholder: int,
    kept: Tensor,
    *,
    run: int,
    span: int | None = None,
    attention_mask: Tensor | None = None,
    labels: Tensor | None = None,
    positions: Positions = "restart",
    padding_side: Literal["left", "right"] | None = None,
    pad_id: int = 0,
) -> Prompt:
    """Give every image T placeholders.

    Args:
        input_ids: int `[B, S]`.
        placeholder: id that stands for image tokens.
        kept: int `[images, T]`, kept positions of each image in order of appearance, over the batch.
        run: placeholders an image has now.
        span: positions an image took before pruning (`gaps` needs it); default `run`.
        attention_mask: `[B, S]`; default all ones.
        labels: `[B, S]`; image places get -100.
        positions: restart numbers the shorter sequence 0..n-1; gaps keeps the numbers of the unpruned sequence.
        padding_side: default: where the mask has its zeros, else right.
        pad_id: written at padded places.

    Raises:
        BadInput: the number of placeholders is not `images * run`.
    """
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    live = mask.bool()
    per_row = ((input_ids == placeholder) & live).sum(1).tolist()
    _check_images(per_row, run, kept.shape[0])
    rows: list[tuple[Tensor, Tensor]] = []
    taken = 0
    for row, count in enumerate(per_row):
        images = kept[taken : taken + count // run]
        taken += count // run
        rows.append(_resize_row(input_ids[row], live[row], placeholder, images, run, span or run, positions))
    side = padding_side or _padding_side(live)
    return _pad(rows, input_ids, mask, labels, placeholder, side, pad_id)


def _check_images(per_row: list[int], run: int, images: int) -> None:
    odd = [row for row, count in enumerate(per_row) if count % run]
    if odd:
        raise BadInput(
            f"prompt {odd[0]} has {per_row[odd[0]]} image placeholders, which is no multiple of {run} per image"
        )
    if sum(per_row) != images * run:
        raise BadInput(f"the prompts have {sum(per_row)} image placeholders, but {images} images take {run} each")


def _resize_row(
    ids: Tensor, live: Tensor, placeholder: int, images: Tensor, run: int, span: int, positions: Positions
) -> tuple[Tensor, Tensor]:
    """Source columns and position numbers of one new row, without padding."""
    columns = live.nonzero()[:, 0]
    is_image = ids[columns] == placeholder
    first = is_image & ((is_image.cumsum(0) - 1) % run == 0)
    stay = ~is_image | first
    columns, first = columns[stay], first[stay]
    repeats = torch.where(first, images.shape[1], 1)
    source = columns.repeat_interleave(repeats)
    if positions == "restart":
        return source, torch.arange(source.shape[0], device=ids.device)
    widths = torch.where(first, span, 1)
    numbers = (widths.cumsum(0) - widths).repeat_interleave(repeats)
    numbers[first.repeat_interleave(repeats)] += images.reshape(-1).to(numbers)
    return source, numbers


def _padding_side(live: Tensor) -> Literal["left", "right"]:
    return "left" if bool((~live[:, 0]).any()) else "right"


def _pad(
    rows: list[tuple[Tensor, Tensor]],
    ids: Tensor,
    mask: Tensor,
    labels: Tensor | None,
    placeholder: int,
    side: Literal["left", "right"],
    pad_id: int,
) -> Prompt:
    length = max(source.shape[0] for source, _ in rows)
    shape = (len(rows), length)
    new_ids, new_mask = ids.new_full(shape, pad_id), mask.new_zeros(shape)
    numbers = torch.zeros(shape, dtype=torch.int64, device=ids.device)
    new_labels = None if labels is None else labels.new_full(shape, IGNORE)
    for row, (source, position) in enumerate(rows):
        n = source.shape[0]
        place = slice(length - n, length) if side == "left" else slice(0, n)
        new_ids[row, place], new_mask[row, place], numbers[row, place] = ids[row, source], 1, position
        if labels is not None and new_labels is not None:
            new_labels[row, place] = labels[row, source].masked_fill(ids[row, source] == placeholder, IGNORE)
    return Prompt(new_ids, new_mask, numbers, new_labels)


def splice(prompt: Prompt, placeholder: int, features: Tensor, embed: Callable[[Tensor], Tensor]) -> Tensor:
    """Input embeddings of a prompt: text from the table, images from `features`, zeros at padded places.

    Args:
        prompt: what `resize_images` returned.
        placeholder: id that stands for image tokens.
        features: `[visual tokens in all, d]`, projected, in order of appearance.
        embed: token ids -> embeddings.

    Returns:
        `[B, S, d]`.
    """
    live = prompt.attention_mask.bool()
    is_image = (prompt.input_ids == placeholder) & live
    if int(is_image.sum()) != features.shape[0]:
        raise BadInput(
            f"the prompts have places for {int(is_image.sum())} visual tokens, but {features.shape[0]} are given"
        )
    text = live & ~is_image
    vectors = embed(prompt.input_ids.masked_fill(~text, 0))
    vectors = vectors.masked_fill(~text.unsqueeze(-1), 0)
    return vectors.masked_scatter(is_image.unsqueeze(-1), features.to(vectors.dtype))
