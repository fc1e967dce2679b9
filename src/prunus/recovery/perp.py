"""PERP: retrain biases, norms and adapters that keep the zeros, and nothing else (Zimmer et al. 2023).

Removes: nothing; every zero of a mask is still one after the merge.
Needs: the fit rows; the dense model as teacher for mode="reconstruct".
Cost: steps * batch passes forward and back, optimizer state for the trained subset only; an adapter makes its whole matrix anew in
 each step. Reconstruction: for each block, one pass of the data up to it, and steps of the block alone.
Departures: written from the formulas; the released code has no licence. Masks are those of the plan, or what is not zero at the
 start, kept as booleans: the released code reads them off the weights in each step, so that a kept weight that happens to be 0
 stays. Norms are found by what they are, not by a list of classes. Models without biases train none; none are added, so a
 result loads as before. The output layer has no adapter of its own. Reconstruction keeps a block as it was where its error did
 not fall. The default learning rate is that of the released script; the paper tunes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from prunus.core.errors import BadInput, UnknownName
from prunus.core.registry import recovery
from prunus.core.rng import torch_rng
from prunus.prunables.model import is_matrix
from prunus.prunables.roles import require_role
from prunus.recovery.reconstruction import reconstruct
from prunus.recovery.training import Report, is_norm, norm_parameters, only, train
from prunus.signals.scan import transposed
from prunus.train.adapters import Adapter, attach, merge
from prunus.train.masks import Masks

PARTS = ("biases", "norms", "adapters")


@recovery(needs=(), card="perp")
def perp(
    model: nn.Module,
    data: Any,
    *,
    step: Any = None,
    steps: int | None = None,
    epochs: int | None = None,
    lr: float = 5e-4,
    batch: int = 8,
    seed: int = 0,
    optimizer: Literal["sgd", "adamw"] = "adamw",
    schedule: Literal["constant", "linear", "cosine", "step", "onecycle"] = "linear",
    weight_decay: float = 0.0,
    warmup: int | None = None,
    parts: tuple[str, ...] = PARTS,
    adapter: Literal["lora_prune", "mask_lora", "scale_lora"] = "mask_lora",
    rank: int = 16,
    alpha: float = 32.0,
    mode: Literal["retrain", "reconstruct"] = "retrain",
    masks: Any = None,
    teacher: nn.Module | None = None,
    report: Report | None = None,
    **more: Any,
) -> nn.Module:
    """Train a small part of `model` in place, merge the adapters, and return it in evaluation mode.

    Args:
        step: adapter of a batch; inferred from the first one.
        steps: optimizer steps (mode="reconstruct": of every block); or give epochs. Neither: one epoch.
        epochs: passes over the data.
        lr: peak learning rate.
        batch: rows per step.
        seed: of order, adapters and dropout.
        optimizer: adamw or sgd (momentum 0.9).
        schedule: of the learning rate.
        weight_decay: of all trained parameters.
        warmup: steps of straight rise; a tenth of `steps` by default.
        parts: what trains: biases, norms, adapters.
        adapter: mask_lora (the merge changes nothing), lora_prune (trained without the mask, merged under it), scale_lora (factors
            of the kept weights).
        rank: of an adapter.
        alpha: an adapter counts alpha / rank.
        mode: retrain on the task's loss, or reconstruct the dense model's outputs block by block.
        masks: train.Masks, or parameter name -> bool: what stays zero; these matrices get adapters. Without any, every matrix of its
            own does, and zeros stay zero.
        teacher: the dense model, for mode="reconstruct"; never trained.
        report: filled with steps, samples, cpu_seconds, loss; trainable parameters and their share; what a merge lost.
        **more: other arguments of `train.loop.fit`.

    Raises:
        BadInput: nothing would train, or a reconstruction without the dense model.
    """
    require_role(data, {"fit"}, what="recovery")
    if unknown := [part for part in parts if part not in PARTS]:
        raise UnknownName("part to train", unknown[0], PARTS)
    if mode not in ("retrain", "reconstruct"):
        raise UnknownName("mode", mode, ("retrain", "reconstruct"))
    named = masks.named if isinstance(masks, Masks) else dict(masks or {})
    settings: dict[str, Any] = {"lr": lr, "seed": seed, "optimizer": optimizer, "schedule": schedule, **more}
    settings |= {"weight_decay": weight_decay, "warmup": (steps or 0) // 10 if warmup is None else warmup}
    adapted = {"kind": adapter, "rank": rank, "scale": alpha / rank, "seed": seed} if "adapters" in parts else None
    kept = masks_of(model, named)
    account: Report = {} if report is None else report
    account |= {"trainable": 0.0, "lost_at_merge": 0.0}
    total = sum(parameter.numel() for parameter in model.parameters())

    @contextmanager
    def subset(inside: nn.Module, prefix: str = "") -> Iterator[None]:
        with training_subset(inside, prefix, parts, kept, adapted, account):
            yield

    if mode == "reconstruct":
        if teacher is None or teacher is model:
            raise BadInput("reconstruction needs the dense model: pass teacher=, not the model itself")
        length = {"steps": steps, "epochs": epochs if steps is not None or epochs is not None else 1}
        reconstruct(model, teacher, data, subset, step=step, batch=batch, report=account, **length, **settings)
    else:
        settings |= {"step": step, "batch": batch, "norms_only": False, "masks": None}
        with subset(model):
            train(model, data, steps=steps, epochs=epochs, report=account, **settings)
    account["share"] = account["trainable"] / max(total, 1)
    return model.eval()


def masks_of(model: nn.Module, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameter -> bool, in its shape: where an adapted matrix may be other than 0. Frozen and shared matrices have none."""
    owners: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(parameter, []).append(name)
    found: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        name = f"{path}.weight" if path else "weight"
        weight = getattr(module, "weight", None)
        if not is_matrix(module) or not isinstance(weight, nn.Parameter) or not weight.requires_grad:
            continue
        if name in given:
            found[name] = given[name].to(weight.device)
        elif not given and len(owners[weight]) == 1:
            found[name] = weight.detach() != 0
    return found


@contextmanager
def training_subset(
    inside: nn.Module,
    prefix: str,
    parts: tuple[str, ...],
    masks: Mapping[str, Tensor],
    adapted: Mapping[str, Any] | None,
    account: Report,
) -> Iterator[None]:
    """Adapters on, all else frozen; on the way out the adapters are merged.

    Args:
        inside: a model, or a block of it.
        prefix: the block's name and a dot.
        parts: biases, norms, adapters.
        masks: of the model's matrices.
        adapted: kind, rank, scale and seed of the adapters, or None.
        account: trainable and lost_at_merge are added up here.
    """
    chosen = norm_parameters(inside) if "norms" in parts else set[nn.Parameter]()
    if "biases" in parts:  # those of norms are norms
        layers = [module for module in inside.modules() if not is_norm(module)]
        chosen |= {
            p for module in layers for name, p in module.named_parameters(recurse=False) if name.endswith("bias")
        }
    chosen = {parameter for parameter in chosen if parameter.requires_grad}
    attached = _attached(inside, prefix, masks, adapted) if adapted is not None else {}
    try:
        for module in attached:
            chosen |= {module.a, module.b}
        if not chosen:
            raise BadInput(f"none of {', '.join(parts)} is there to train in {prefix or type(inside).__name__}")
        account["trainable"] += float(sum(parameter.numel() for parameter in chosen))
        with only(inside, chosen):
            yield
    finally:
        for one, (module, order) in attached.items():
            weight = module.parametrizations["weight"].original  # type: ignore[index, union-attr]
            account["lost_at_merge"] += one.lost(weight)
            merge(module, order)


def _attached(
    inside: nn.Module, prefix: str, masks: Mapping[str, Tensor], adapted: Mapping[str, Any]
) -> dict[Adapter, tuple[nn.Module, tuple[str, ...]]]:
    found: dict[Adapter, tuple[nn.Module, tuple[str, ...]]] = {}
    for path, module in list(inside.named_modules()):
        name = f"{prefix}{path}.weight" if path else f"{prefix}weight"
        if name in masks:
            order = tuple(module._parameters)  # pyright: ignore[reportPrivateUsage] # a bias of None has its place too
            options = {"rank": adapted["rank"], "scale": adapted["scale"], "stored": transposed(module)}
            generator = torch_rng(adapted["seed"], f"adapter/{name}")
            found[attach(module, adapted["kind"], masks[name], generator=generator, **options)] = (module, order)
    return found
