"""Perplexity: exp of the mean loss of a token over fixed windows that do not overlap.

Removes: nothing.
Needs: a causal language model and a list of token ids.
Cost: one forward pass over the tokens; with `dense` one more.
Departures: the number depends on window, tokens, dtype, text and tokenizer, so all of them are in the record. With a dense model
    the same pass gives the mean KL divergence to it and the share of positions where both name the same next token.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunus.core.errors import BadInput, NonFinite
from prunus.core.registry import measure
from prunus.measure.measured import Measured, role_facts
from prunus.measure.stats import resampled_means
from prunus.train.modes import evaluating

CHUNK = 256  # positions whose logits are held in float32 at once


@measure(needs=("logits",))
def perplexity(
    model: nn.Module,
    data: Any,
    *,
    step: Any = None,
    window: int = 1024,
    tokens: int | None = None,
    batch: int = 1,
    device: str = "cpu",
    dense: nn.Module | None = None,
    tokenizer: Any = None,
) -> Measured:
    """`perplexity`, `token_loss`; with `dense` also `kl_to_dense` and `top1_agreement`. Intervals: bootstrap over windows.

    Args:
        step: not read.
        dense: the model before pruning: adds `kl_to_dense` and `top1_agreement`.
        tokenizer: of text; its vocabulary's hash goes into the record.
        data: token ids, int `[n]` (tensor, array or list), rows that are windows of tokens (`open_text`), or text together
            with `tokenizer`.
        window: tokens in a window; each gives `window - 1` predictions.
        tokens: read only the first so many; a rest shorter than a window is left out.
        batch: windows at a time.
        device: where the model runs.

    Raises:
        BadInput: fewer tokens than one window.
        NonFinite: the loss of a window is not finite.
    """
    ids = token_ids(data, tokenizer)
    ids = ids[: tokens or len(ids)]
    windows = ids[: len(ids) // window * window].view(-1, window) if window > 1 else ids[:0]
    if len(windows) == 0:
        raise BadInput(f"{len(ids)} tokens make no window of {window} tokens (a window needs 2 at least)")
    sums = _over_windows(model, dense, windows, batch, torch.device(device))
    if not np.isfinite(sums).all():
        bad = np.flatnonzero(~np.isfinite(sums).all(1))
        raise NonFinite(f"the loss of windows {bad[:5].tolist()} is not finite")
    facts = {"window": window, "tokens": int(windows.numel()), "dtype": _dtype(model), "data_hash": _hash(windows)}
    if tokenizer is not None:
        facts["tokenizer_hash"] = tokenizer_hash(tokenizer)
    return Measured(_metrics(sums / (window - 1)), **facts, **role_facts(data, len(windows)))


def token_ids(data: Any, tokenizer: Any = None) -> Tensor:
    """int64 `[n]` from ids or from text; no special tokens are added to text."""
    if isinstance(data, str):
        if tokenizer is None:
            raise BadInput("text needs tokenizer=")
        return torch.tensor(tokenizer(data, add_special_tokens=False)["input_ids"], dtype=torch.int64)
    if hasattr(data, "batches"):
        return _of_rows(data)
    ids = torch.as_tensor(data if isinstance(data, Tensor) else np.asarray(data))
    if ids.dim() != 1 or ids.is_floating_point():
        raise BadInput(f"perplexity needs one list of token ids, int [n], not {ids.dtype} {list(ids.shape)}")
    return ids.to(torch.int64)


def _of_rows(data: Any) -> Tensor:
    """The tokens of windows, one window after the other."""
    parts: list[Tensor] = []
    for batch in data.batches(64):
        if not isinstance(batch, Mapping) or "input_ids" not in batch:
            raise BadInput(f"perplexity is measured on tokens: {getattr(data, 'name', 'the data')} holds no input_ids")
        parts.append(torch.as_tensor(batch["input_ids"]).reshape(-1))
    if not parts:
        raise BadInput("there are no rows to measure on")
    return torch.cat(parts).to(torch.int64)


def tokenizer_hash(tokenizer: Any) -> str:
    """Of the vocabulary: which text piece has which id."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return hashlib.blake2b(repr(vocabulary).encode(), digest_size=8).hexdigest()


def _over_windows(
    model: nn.Module, dense: nn.Module | None, windows: Tensor, batch: int, device: torch.device
) -> np.ndarray:
    """`[windows, 1 or 3]`: sums over positions of loss, KL and agreement."""
    parts: list[np.ndarray] = []
    with evaluating(*(net for net in (model, dense) if net is not None)), torch.inference_mode():
        for part in windows.split(batch):
            part = part.to(device)
            logits = _logits(model, part)
            parts.append(_sums(logits, None if dense is None else _logits(dense, part), part[:, 1:]))
    return np.concatenate(parts)


def _logits(model: nn.Module, ids: Tensor) -> Tensor:
    """Of every position but the last."""
    output = model(input_ids=ids, use_cache=False) if hasattr(model, "config") else model(ids)
    return getattr(output, "logits", output)[:, :-1]


def _sums(logits: Tensor, reference: Tensor | None, targets: Tensor) -> np.ndarray:
    total = np.zeros((len(logits), 1 if reference is None else 3))
    for start in range(0, logits.shape[1], CHUNK):
        place = slice(start, start + CHUNK)
        log_q = logits[:, place].float().log_softmax(-1)
        total[:, 0] += (
            F.nll_loss(log_q.transpose(1, 2), targets[:, place], reduction="none").double().sum(1).cpu().numpy()
        )
        if reference is not None:
            log_p = reference[:, place].float().log_softmax(-1)
            total[:, 1] += (
                F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1).double().sum(1).cpu().numpy()
            )
            total[:, 2] += (log_q.argmax(-1) == log_p.argmax(-1)).double().sum(1).cpu().numpy()
    return total


def _metrics(means: np.ndarray) -> dict[str, tuple[float, tuple[float, float] | None]]:
    loss, interval = float(means[:, 0].mean()), _interval(means[:, 0])
    out: dict[str, tuple[float, tuple[float, float] | None]] = {
        "perplexity": (math.exp(loss), None if interval is None else (math.exp(interval[0]), math.exp(interval[1]))),
        "token_loss": (loss, interval),
    }
    for column, name in enumerate(("kl_to_dense", "top1_agreement")[: means.shape[1] - 1], 1):
        out[name] = (float(means[:, column].mean()), _interval(means[:, column]))
    return out


def _interval(values: np.ndarray) -> tuple[float, float] | None:
    if values.size < 2:
        return None
    low, high = np.quantile(resampled_means(values, 0, 2000), [0.025, 0.975])
    return float(low), float(high)


def _hash(ids: Tensor) -> str:
    return hashlib.blake2b(ids.numpy().tobytes(), digest_size=8).hexdigest()


def _dtype(model: nn.Module) -> str:
    return str(next(model.parameters()).dtype).removeprefix("torch.")
