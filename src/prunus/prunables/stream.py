"""TokenStream: the tokens of a vision transformer or of a LLaVA model, as a prunable.

A plan over tokens is a policy, not a list of ids: rule, place, count, positions. In `plan.groups` the group is named
`<block>:tokens`, its size is N, and the kept ids 0..T-1 are RANKS: the T best of every image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from prunus.core.budget import Budget
from prunus.core.errors import BadInput, FingerprintMismatch, UnknownName
from prunus.core.plan import Kept, Plan
from prunus.core.prunable import Group
from prunus.core.registry import find
from prunus.prunables.encoders import Encoder, find_encoder
from prunus.prunables.llava import attach_prompt
from prunus.signals.cls_attention import projections
from prunus.tokens.gate import Policy, TokenGate
from prunus.tokens.vispruner import PER_ROUND
from prunus.train.copies import copied

SUFFIX = ":tokens"


class TokenStream:
    """The tokens behind each block.

    Args:
        model: a timm or torchvision VisionTransformer, a transformers vision transformer (ViT, CLIP, SigLIP, ...), or a
            transformers LLaVA model.
    """

    unit = "tokens"

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.encoder: Encoder = find_encoder(model)

    def groups(self, unit: str | None = None) -> tuple[Group, ...]:
        """One group for each block tokens can be dropped behind; the last block of a classifier included."""
        if unit not in (None, "tokens"):
            raise UnknownName("unit of a token stream", unit, ("tokens",))
        cost = self.token_macs(0)
        return tuple(
            Group(name + SUFFIX, "tokens", self.encoder.tokens, cost=float(cost)) for name in self.encoder.blocks
        )

    def place(self, at: str | int | None) -> str:
        """The block a plan names.

        Args:
            at: index of a block (negative from the end), its name, `vision.output` or None: where a language model reads the
                image; a classifier has no such place, so it needs an index.
        """
        encoder = self.encoder
        if at is None or at == "vision.output":
            if encoder.feature_block is None:
                raise BadInput(
                    f"say behind which of the {len(encoder.blocks)} blocks tokens go: at=0 .. at={len(encoder.blocks) - 1}"
                )
            return encoder.blocks[encoder.feature_block]
        if isinstance(at, int) or at.lstrip("-").isdigit():
            index = int(at)
            if not -len(encoder.blocks) <= index < len(encoder.blocks):
                raise BadInput(f"block {index} is outside the {len(encoder.blocks)} blocks of this encoder")
            return encoder.blocks[index]
        name = at.removesuffix(SUFFIX)
        if name not in encoder.blocks:
            raise UnknownName("block", name, encoder.blocks)
        return name

    def plan(
        self,
        rule: str,
        budget: str | Budget,
        *,
        at: str | int | None = None,
        select: str = "top",
        select_options: Mapping[str, Any] | None = None,
        positions: Literal["restart", "gaps"] = "restart",
        seed: int = 0,
        **options: Any,
    ) -> Plan:
        """A policy that keeps T tokens of every image behind one block.

        Args:
            rule: a token criterion (fastervlm, random, grid, ...), or the selector vispruner (which ranks by fastervlm).
            budget: "16 tokens", "25% tokens".
            at: see `place`.
            select: `top`, or a selector.
            select_options: its options.
            positions: restart or gaps (LLaVA only).
            seed: of random rules.
            **options: of the rule.
        """
        asked = Budget.parse(budget)
        if asked.quantity != "tokens":
            raise BadInput(f"a token plan needs a budget in tokens, not {asked.short()!r}")
        chosen = dict(select_options or {})
        method = find(rule, unit="tokens", kind=("criterion", "selector"))
        if method.kind == "selector":
            rule, select, chosen, options = "tokens/fastervlm", method.id, {**chosen, **options}, {}
        place, size = self.place(at), self.encoder.tokens
        count = asked.count(size)
        policy = Policy(rule, count, select, dict(options), chosen, positions, seed)
        TokenGate(policy, prefix=self.encoder.prefix, has_cls=self.encoder.has_cls)  # refuses what can't run here
        facts = {"method": policy.rule, "policy": policy.to_json()}
        kept = {place + SUFFIX: Kept.of_ids(np.arange(count), size)}
        plan = Plan("tokens", kept, asked, provenance=facts, fingerprint=self.fingerprint())
        return replace(plan, planned=self.cost(plan), dense=self.cost())

    def apply(self, plan: Plan, *, mode: Literal["cut", "mask"] = "cut", inplace: bool = False) -> nn.Module:
        """The model with one TokenGate; every block keeps its class, the state dict its keys.

        Raises:
            FingerprintMismatch: the plan was made for an encoder of another shape.
        """
        if mode != "cut":
            raise BadInput("tokens are really dropped; there is no mask mode")
        if plan.unit != "tokens":
            raise BadInput(f"this is a token stream, the plan removes {plan.unit}")
        if plan.fingerprint and plan.fingerprint != self.fingerprint():
            raise FingerprintMismatch("token plan", plan.fingerprint, self.fingerprint())
        model = self.model if inplace else copied(self.model)
        for name in plan.groups:
            self._insert(model, self.place(name), policy_of(plan))
        return model

    def _insert(self, model: nn.Module, place: str, policy: Policy) -> None:
        gate = TokenGate(policy, prefix=self.encoder.prefix, has_cls=self.encoder.has_cls)
        block = model.get_submodule(place)
        gate.attach(block, getattr(block, self.encoder.attention))
        if self.encoder.root:
            attach_prompt(model, gate)

    def cost(self, plan: Plan | None = None) -> dict[str, float]:
        """`tokens` an image keeps at the end, and `block_macs`: multiplications in the encoder's blocks, by formula."""
        places = {} if plan is None else {self.place(name): kept.count for name, kept in plan.groups.items()}
        policy = None if plan is None else policy_of(plan)
        tokens, macs = self.encoder.tokens, 0
        for name in self.encoder.blocks:
            macs += self._block_macs(name, tokens + self.encoder.prefix)
            if name in places and places[name] < tokens:
                macs += self._gate_macs(name, tokens, policy)
                tokens = places[name]
        return {"tokens": float(tokens), "block_macs": float(macs)}

    def token_macs(self, block: int) -> int:
        """Multiplications one token costs in the linear layers of a block."""
        return _linear_macs(self.model.get_submodule(self.encoder.blocks[block]))

    def _attention(self, block: str) -> nn.Module:
        return getattr(self.model.get_submodule(block), self.encoder.attention)

    def _block_macs(self, block: str, length: int) -> int:
        """Linear layers on every token, and the two products of attention: `length * linear + 2 * length^2 * width`."""
        return length * _linear_macs(self.model.get_submodule(block)) + 2 * length**2 * _width(self._attention(block))

    def _gate_macs(self, block: str, tokens: int, policy: Policy | None) -> int:
        """What the rule itself costs: one recomputed attention row, or the whole map for received attention."""
        attention, length = self._attention(block), tokens + self.encoder.prefix
        width, (outputs, inputs) = _width(attention), _query_shape(attention)
        if policy is None:
            return 0
        extra = _vispruner_macs(policy, tokens, inputs) if policy.select == "tokens/vispruner" else 0
        if "cls_attention" in policy.needs:
            return extra + 2 * outputs * inputs + _heads(attention) * inputs * length
        if "received_attention" in policy.needs:
            return extra + 2 * length * outputs * inputs + length**2 * width
        return extra

    def fingerprint(self) -> str:
        """Of the encoder's shape: blocks, widths, tokens, leading tokens. A policy does not depend on weights."""
        parts = [repr(self.encoder)]
        parts += [
            f"{name}{tuple(p.shape)}" for name, p in self.model.get_submodule(self.encoder.root).named_parameters()
        ]
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def policy_of(plan: Plan) -> Policy:
    """The policy of a token plan."""
    if plan.unit != "tokens" or "policy" not in plan.provenance:
        raise BadInput(f"this plan removes {plan.unit} and holds no token policy")
    return Policy(**plan.provenance["policy"])


def random_like(plan: Plan, seed: int) -> Plan:
    """The control of a token plan: random tokens, as many, at the same places."""
    old = policy_of(plan)
    policy = Policy("tokens/random", old.count, positions=old.positions, seed=seed)
    made = {"method": policy.rule, "policy": policy.to_json(), "like": plan.provenance.get("method", "")}
    return replace(plan, provenance=made)


def _vispruner_macs(policy: Policy, tokens: int, width: int) -> int:
    """Similarities of its rounds."""
    important = int(policy.count * policy.select_options.get("important_ratio", 0.5))
    rest, target, macs = tokens - important, policy.count - important, 0
    while target and rest > target:
        macs += -(-rest // 2) * (rest // 2) * width
        rest -= min(PER_ROUND, rest - target, -(-rest // 2))
    return macs


def _linear_macs(block: nn.Module) -> int:
    linear = sum(m.weight.numel() for m in block.modules() if isinstance(m, nn.Linear))
    # None where query, key and value have weights of their own, whatever torch declares
    fused: list[Tensor | None] = [m.in_proj_weight for m in block.modules() if isinstance(m, nn.MultiheadAttention)]
    return linear + sum(weight.numel() for weight in fused if weight is not None)


def _query_shape(attention: nn.Module) -> tuple[int, int]:
    outputs, inputs = projections(attention).query_weight.shape
    return outputs, inputs


def _heads(attention: nn.Module) -> int:
    parts = projections(attention)
    return parts.query_weight.shape[0] // parts.head_dim


def _width(attention: nn.Module) -> int:
    return _query_shape(attention)[0]
