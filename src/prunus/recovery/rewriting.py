"""Pairs of prompt and answer: the dense model says each answer in its own words; rows of tokens to train on answers only."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from prunus.core.errors import BadInput
from prunus.core.rng import shuffled
from prunus.train.modes import evaluating
from prunus.train.step import IGNORED

Pair = tuple[str, str]
Check = Literal["open", "number"] | Callable[[str, str], bool]
INSTRUCTION = (
    "Below are a question and its reference answer. Write the answer again in your own words.\n\n"
    "Question: {prompt}\n\nReference answer: {answer}\n\nAnswer:"
)
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
Made = tuple[list[Pair], dict[str, float]]


def rewritten(
    dense: nn.Module, pairs: Sequence[Pair], tokenizer: Any, *, check: Check = "open", longest: int = 256, batch: int = 8,
    instruction: str = INSTRUCTION,
) -> Made:  # fmt: skip
    """Answers as the dense model would put them, greedily; where one won't do, the reference stays.

    Args:
        dense: a causal transformers model.
        pairs: (prompt, answer); pairs without an answer are dropped.
        tokenizer: of the model, with a token that ends a text.
        check: open: an answer must end by itself and hold words; number: its last number must be the reference's too; or a
            function of (reference, answer).
        longest: tokens of an answer; a longer one is not accepted.
        batch: prompts at a time.
        instruction: what the model is asked, with {prompt} and {answer}.

    Returns:
        The pairs with their new answers, and: pairs, dropped, accepted (a share), truncated, empty, wrong.
    """
    good = [(prompt, answer) for prompt, answer in pairs if answer.strip()]
    if not good:
        raise BadInput("there is no pair with an answer")
    counts = {"pairs": len(good), "dropped": len(pairs) - len(good), "truncated": 0, "empty": 0, "wrong": 0}
    found: list[Pair] = []
    for start in range(0, len(good), batch):
        part = good[start : start + batch]
        asked = [asked_of(tokenizer, instruction.format(prompt=prompt, answer=answer)) for prompt, answer in part]
        for (prompt, answer), (text, ended) in zip(part, answers(dense, asked, tokenizer, longest)):
            fault = (
                "truncated" if not ended else "empty" if not text else "" if _agrees(check, answer, text) else "wrong"
            )
            counts[fault] = counts.get(fault, 0) + 1
            found.append((prompt, answer if fault else text))
    accepted = counts.pop("", 0)
    return found, {**{name: float(count) for name, count in counts.items()}, "accepted": accepted / len(good)}


def _agrees(check: Check, reference: str, text: str) -> bool:
    if callable(check):
        return bool(check(reference, text))
    if check == "open":
        return True
    wanted, given = (NUMBER.findall(one) for one in (reference, text))
    return bool(wanted and given) and float(wanted[-1].replace(",", "")) == float(given[-1].replace(",", ""))


def answers(dense: nn.Module, asked: Sequence[Sequence[int]], tokenizer: Any, longest: int) -> list[tuple[str, bool]]:
    """(text, whether it ended by itself) of each prompt; prompts are padded on the left and decoded together."""
    end = int(tokenizer.eos_token_id)
    width = max(map(len, asked))
    ids = torch.full((len(asked), width), end)
    real = torch.zeros(len(asked), width, dtype=torch.long)
    for row, tokens in enumerate(asked):
        ids[row, width - len(tokens) :] = torch.as_tensor(tokens)
        real[row, width - len(tokens) :] = 1
    device = next(dense.parameters()).device
    given: dict[str, Any] = {"input_ids": ids.to(device), "attention_mask": real.to(device), "max_new_tokens": longest}
    with evaluating(dense), torch.no_grad():
        made = dense.generate(**given, do_sample=False, pad_token_id=end, eos_token_id=end)  # type: ignore[operator]
    found: list[tuple[str, bool]] = []
    for tokens in made[:, width:].tolist():
        ended = end in tokens
        kept = tokens[: tokens.index(end)] if ended else tokens
        found.append((tokenizer.decode(kept, skip_special_tokens=True).strip(), ended))
    return found


def asked_of(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a prompt: through the chat template where there is one, so that asking, training and use are alike."""
    if getattr(tokenizer, "chat_template", None):
        turn = [{"role": "user", "content": text}]
        text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def taught(
    pairs: Sequence[Pair], tokenizer: Any, *, batch: int, seed: int, length: int = 1024
) -> list[dict[str, torch.Tensor]]:
    """Batches whose labels are the answers: prompt tokens and padding have none.

    Args:
        pairs: (prompt, answer).
        tokenizer: as above.
        batch: pairs at a time.
        seed: of their order.
        length: tokens of a pair at most; the end is cut.
    """
    end = int(tokenizer.eos_token_id)
    rows: list[tuple[list[int], list[int]]] = []
    for prompt, answer in pairs:
        asked = asked_of(tokenizer, prompt)
        said = [*tokenizer(answer, add_special_tokens=False)["input_ids"], end]
        rows.append(((asked + said)[:length], ([IGNORED] * len(asked) + said)[:length]))
    order = shuffled(seed, "pairs", np.arange(len(rows)))
    made: list[dict[str, torch.Tensor]] = []
    for start in range(0, len(rows), batch):
        part = [rows[at] for at in order[start : start + batch]]
        width = max(len(ids) for ids, _ in part)
        padded = [(ids + [end] * (width - len(ids)), labels + [IGNORED] * (width - len(ids))) for ids, labels in part]
        real = [[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in part]
        columns = {
            "input_ids": [ids for ids, _ in padded],
            "attention_mask": real,
            "labels": [one for _, one in padded],
        }
        made.append({name: torch.tensor(column) for name, column in columns.items()})
    return made
