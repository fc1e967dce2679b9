"""Self-data distillation: the pruned model is fine-tuned on answers that the dense one rewrote (Thangarasa et al. 2024).

Removes: nothing; made for models that lost a run of layers, at home with any cut.
Needs: pairs of prompt and answer, the dense model, their tokenizer.
Cost: one answer of the dense model for each pair, which is most of it; then LoRA on the pruned model.
Departures: no code was released, and the paper leaves rank, learning rate and decoding open: rank 8, alpha 16, 1e-4 with a cosine,
 greedy answers of at most 256 tokens. An answer counts where it ends by itself and says something, under check="number" only where
 its last number is the reference's; else the reference stays, and the share accepted is reported. A second set (`also`) trains a
 second model, and the two are merged along arcs; merging what training added, space="delta", is our own: whole tensors of two
 fine-tuned siblings are almost parallel, so that most arcs are lines, which is reported too. Plain adapters are peft's; under
 masks they are PERP's mask_lora, which keeps the zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput, require
from prunus.core.registry import recovery
from prunus.core.rng import torch_fork
from prunus.maths.merging import slerp
from prunus.prunables.roles import require_role
from prunus.recovery.perp import masks_of, training_subset
from prunus.recovery.rewriting import Check, Pair, rewritten, taught
from prunus.recovery.training import Report, train
from prunus.train.copies import copied
from prunus.train.masks import Masks


@recovery(needs=(), rows="pairs", extras=("text",), card="self-data-distillation")
def self_data_distillation(
    model: nn.Module,
    data: Any,
    *,
    tokenizer: Any = None,
    also: Any = None,
    steps: int | None = None,
    epochs: int | None = None,
    lr: float = 1e-4,
    batch: int = 8,
    seed: int = 0,
    optimizer: Literal["sgd", "adamw"] = "adamw",
    schedule: Literal["constant", "linear", "cosine", "step", "onecycle"] = "cosine",
    weight_decay: float = 0.0,
    warmup: int = 0,
    rank: int = 8,
    alpha: float = 16.0,
    rewrite: bool = True,
    check: Check = "open",
    longest: int = 256,
    length: int = 1024,
    t: float = 0.5,
    space: Literal["weights", "delta"] = "weights",
    masks: Any = None,
    teacher: nn.Module | None = None,
    report: Report | None = None,
    **more: Any,
) -> nn.Module:
    """Train adapters of `model` in place on rewritten answers, merge them, and return it in evaluation mode.

    Args:
        data: (prompt, answer) pairs of text, role fit.
        tokenizer: of both models.
        also: other pairs: a second model is trained on them, and the two are merged.
        steps: optimizer steps; or give epochs. Neither: one epoch.
        epochs: passes over the pairs.
        lr: peak learning rate.
        batch: pairs per step.
        seed: of order, adapters and dropout.
        optimizer: adamw or sgd (momentum 0.9).
        schedule: of the learning rate.
        weight_decay: of the adapters.
        warmup: steps of straight rise.
        rank: of the adapters, on every matrix of its own.
        alpha: an adapter counts alpha / rank.
        rewrite: False trains on the answers as they are: plain fine-tuning, the control.
        check: open, number, or a function of (reference, answer) that says whether an answer will do.
        longest: tokens of a rewritten answer.
        length: tokens of a pair.
        t: where between the two models; 0 is the first.
        space: merge weights, or what training added to them.
        masks: train.Masks, or parameter name -> bool: what stays zero.
        teacher: the dense model, which rewrites; not read without `rewrite`.
        report: filled with steps, samples, cpu_seconds, loss, trainable; accepted and why others were not; arcs and lines of a merge.
        **more: other arguments of `train.loop.fit`.

    Raises:
        BadInput: no tokenizer, no dense model to rewrite with, or no pair.
    """
    require_role(data, {"fit"}, what="recovery")
    if tokenizer is None:
        raise BadInput("pairs of text need their tokenizer: pass tokenizer=")
    if rewrite and (teacher is None or teacher is model):
        raise BadInput(
            "the dense model rewrites the answers: pass teacher=, or rewrite=False to train on them as they are"
        )
    if space not in ("weights", "delta"):
        raise BadInput(f"space is weights or delta, not {space!r}")
    named = masks.named if isinstance(masks, Masks) else dict(masks or {})
    account: Report = {} if report is None else report
    settings: dict[str, Any] = {"lr": lr, "seed": seed, "optimizer": optimizer, "schedule": schedule}
    settings |= {"weight_decay": weight_decay, "warmup": warmup, "steps": steps, "epochs": epochs, **more}

    def tuned(one: nn.Module, pairs: Sequence[Pair]) -> nn.Module:
        made = list(pairs)
        if rewrite:
            assert teacher is not None
            made, told = rewritten(teacher, made, tokenizer, check=check, longest=longest, batch=batch)
            account.update({name: account.get(name, 0.0) + value for name, value in told.items()})
        rows = taught(made, tokenizer, batch=batch, seed=seed, length=length)
        with adapted(one, named, rank=rank, alpha=alpha, seed=seed, account=account):
            return train(one, rows, masks=None, norms_only=False, report=account, **settings)

    if also is None:
        return tuned(model, data)
    require_role(also, {"fit"}, what="recovery")
    base = copied(model) if space == "delta" else None
    other = tuned(copied(model), also)
    account |= merged(tuned(model, data), other, t, base)
    if rewrite:
        account["accepted"] /= 2
    return model.eval()


@contextmanager
def adapted(
    model: nn.Module, masks: Mapping[str, Tensor], *, rank: int, alpha: float, seed: int, account: Report
) -> Iterator[None]:
    """Adapters on every matrix of its own (under masks: on those with one), merged on the way out."""
    kept = masks_of(model, masks)
    if masks:
        options = {"kind": "mask_lora", "rank": rank, "scale": alpha / rank, "seed": seed}
        account |= {"trainable": 0.0, "lost_at_merge": 0.0}
        with training_subset(model, "", ("adapters",), kept, options, account):
            yield
        return
    require("peft", "text")
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    names = [name.removesuffix(".weight") for name in kept]
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=names, lora_dropout=0.0)  # type: ignore[arg-type]
    with torch_fork(seed, "lora"):
        inside = LoraModel(model, config, "default")
    try:
        account["trainable"] = float(sum(p.numel() for p in model.parameters() if p.requires_grad))
        yield
    finally:
        inside.merge_and_unload()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(flags[name])


def merged(model: nn.Module, other: nn.Module, t: float, base: nn.Module | None = None) -> dict[str, float]:
    """Move every floating tensor of `model` towards that of `other`, in place.

    Args:
        model, other: of one architecture.
        t: 0 leaves the model as it is, 1 makes it the other.
        base: where both began, to merge the differences from it; None merges the weights.

    Returns:
        How many tensors moved along an arc, and how many along a line.
    """
    counts = {"arcs": 0.0, "lines": 0.0}
    theirs = dict(other.named_parameters())
    start = dict(base.named_parameters()) if base is not None else {}
    with torch.no_grad():
        for name, ours in model.named_parameters():
            zero = start[name].detach() if start else torch.zeros_like(ours)
            between, arc = slerp(ours - zero, theirs[name] - zero, t)
            counts["arcs" if arc else "lines"] += 1
            ours.copy_(zero + between)
    return counts
