"""Prune, combine, augment: kept images packed several to one, trained on with crops of one tile (Xiao et al. 2025).

Removes: nothing; the plan does: `balanced` with balance 1 keeps the same number of the easiest images in every class.
Needs: labelled images of one size; a score to group them by, where alike ones should share an image.
Cost: training. A stored image holds factor² kept ones, so that a `1 / factor²` of their pixels are stored, and is seen
  once an epoch, by one of its tiles.
Departures: the authors released their benchmark only. Own choices: images are shrunk by the mean of the pixels covered;
  grouped in the order of the score; a crop keeps half to all of a tile's area, of ratio 3/4 to 4/3, and is cut at the
  tile's border. `within = "image"` leaves the border out (the ablation), "none" trains on whole mosaics. A class whose
  images fill no whole number of stored ones has its easiest repeated. Labels are hard: no teacher is read.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from prunus.core.errors import UnknownName
from prunus.core.registry import recovery
from prunus.core.score import Score
from prunus.prunables.combined import combine as combined
from prunus.prunables.roles import require_role
from prunus.recovery.training import Report, train
from prunus.train.engine import Augment
from prunus.train.tiles import TileCrop

WITHIN = ("tile", "image", "none")


@recovery(needs=(), card="pca-compression")
def combine(
    model: nn.Module,
    data: Any,
    *,
    step: Any = None,
    steps: int | None = None,
    epochs: int | None = None,
    lr: float = 0.01,
    batch: int = 128,
    seed: int = 0,
    optimizer: Literal["sgd", "adamw"] = "sgd",
    schedule: Literal["constant", "cosine", "step", "onecycle"] = "cosine",
    weight_decay: float = 5e-4,
    warmup: int = 0,
    factor: int = 2,
    within: Literal["tile", "image", "none"] = "tile",
    scale: tuple[float, float] = (0.5, 1.0),
    ratio: tuple[float, float] = (0.75, 1.3333333333333333),
    score: Score | None = None,
    augment: Augment | None = None,
    masks: Any = None,
    teacher: Any = None,
    report: Report | None = None,
    **more: Any,
) -> nn.Module:
    """Train `model` in place on combined images with hard labels and return it, in evaluation mode.

    Args:
        step: adapter of a batch; inferred from the first one.
        steps: optimizer steps; or give epochs. Neither: one epoch.
        epochs: passes over the stored images, which are factor² times fewer than the rows.
        lr: peak learning rate.
        batch: stored images per step.
        seed: of order, crops, augmentation and dropout.
        optimizer: sgd (momentum 0.9) or adamw.
        schedule: of the learning rate.
        weight_decay: of all trained parameters.
        warmup: steps of straight rise.
        factor: tiles across and down.
        within: what a crop stays in: tile, image, or none for no crop.
        scale: least and largest share of the area that a crop keeps.
        ratio: least and largest width over height of a crop.
        score: of the rows; the order in which images of a class are grouped. By default drawn by their ids.
        augment: after the crop.
        masks: train.Masks, or parameter name -> bool: what stays zero.
        teacher: not read; labels are hard.
        report: filled with steps, samples, cpu_seconds and the last epoch's loss.
        **more: other arguments of `train.loop.fit`.
    """
    require_role(data, {"fit"}, what="training on combined images")
    rows = combined(data, factor=factor, score=score)
    crop = cropped(factor, within, scale, ratio, augment)
    settings = {"step": step, "lr": lr, "batch": batch, "seed": seed, "optimizer": optimizer, "schedule": schedule}
    settings |= {"weight_decay": weight_decay, "warmup": warmup, "augment": crop, **more}
    return train(model, rows, steps=steps, epochs=epochs, masks=masks, norms_only=False, report=report, **settings)


def cropped(
    factor: int, within: str, scale: tuple[float, float], ratio: tuple[float, float], then: Augment | None
) -> Augment | None:
    """The crop as an augmentation, with another after it."""
    if within not in WITHIN:
        raise UnknownName("what a crop stays in", within, WITHIN)
    if within == "none":
        return then
    crop = TileCrop(factor if within == "tile" else 1, scale, ratio)

    def augment(x: Tensor, generator: torch.Generator) -> Tensor:
        found = crop(x, generator)
        return found if then is None else then(found, generator)

    return augment
