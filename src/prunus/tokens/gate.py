"""TokenGate: the registered module that drops tokens behind one block of an encoder, in every forward pass.

The block keeps its class and its state dict: libraries find layers by class (transformers records hidden states that way).
Tokens are gathered, not masked, so every later block is really faster. Leading tokens (CLS, registers) always stay.
"""

from __future__ import annotations

import inspect
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput, UnknownName
from prunus.core.registry import find
from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.signals.cls_attention import cls_attention, received_attention
from prunus.tokens.select import check_count, gather, keep_top
from prunus.tokens.vispruner import keep_diverse, vispruner

ATTENTION_SIGNALS = ("cls_attention", "received_attention")
NEEDS = (*ATTENTION_SIGNALS, "features")
TOP = "top"


@dataclass(frozen=True)
class Policy:
    """Which tokens stay: what a plan over tokens says instead of ids.

    Attributes:
        rule: id of a token criterion.
        count: T, tokens that stay of each example.
        select: `top`, or the name of a selector (vispruner, or any selector over rows that needs only an embedding).
        options, select_options: of the two methods.
        positions: restart or gaps, where a language model reads the tokens.
        seed: of random rules.
    """

    rule: str
    count: int
    select: str = TOP
    options: dict[str, Any] = field(default_factory=dict)
    select_options: dict[str, Any] = field(default_factory=dict)
    positions: Literal["restart", "gaps"] = "restart"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.positions not in ("restart", "gaps"):
            raise UnknownName("position policy", str(self.positions), ("restart", "gaps"))
        method = find(self.rule, unit="tokens", kind="criterion")
        method.check_options(self.options)
        if unknown := [name for name in method.needs if name not in NEEDS]:
            raise BadInput(f"{method.id} needs {', '.join(unknown)}, which no gate inside a model can give")
        object.__setattr__(self, "rule", method.id)
        if self.select != TOP:
            selector = find(self.select, kind="selector")
            selector.check_options(self.select_options)
            object.__setattr__(self, "select", selector.id)

    @property
    def needs(self) -> tuple[str, ...]:
        """Signals of the rule."""
        return find(self.rule).needs

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass
class TokenSignals:
    """What a token criterion reads. `features` `[B, N, d]`, attentions `[B, heads, N]`, `ids` `[B]` where images have names."""

    features: Tensor
    cls_attention: Tensor | None = None
    received_attention: Tensor | None = None
    ids: Any = None

    @property
    def embedding(self) -> Tensor:
        """The features, under the name selectors over rows use."""
        return self.features


class TokenGate(nn.Module):
    """Drops all but `policy.count` tokens of each example behind one block.

    Args:
        policy: which tokens stay.
        prefix: leading tokens that are no patches.
        has_cls: whether the first of them is a CLS token.

    Attributes:
        kept: int64 `[B, T]`, raster positions kept in the last pass among the tokens that came in; None before the first.
        incoming: patches that came in then.
    """

    def __init__(self, policy: Policy, *, prefix: int = 1, has_cls: bool = True) -> None:
        super().__init__()
        check_count(policy.count, policy.count)
        if "cls_attention" in policy.needs and not has_cls:
            raise BadInput(
                f"{policy.rule} needs a CLS token and this encoder has none: choose tokens/received (attention received "
                "from all patches) or another rule"
            )
        self.policy, self.prefix = policy, prefix
        self._needs = policy.needs
        self._rule, self._options = _bound(policy.rule, policy.options, policy.seed)
        self._select = _bound(policy.select, policy.select_options, policy.seed) if policy.select != TOP else None
        self.kept: Tensor | None = None
        self.incoming = 0
        self._hidden: Tensor | None = None

    def attach(self, block: nn.Module, attention: nn.Module) -> None:
        """Register on a block and watch its attention's input.

        Raises:
            BadInput: the block has a gate already, or its attention can't be read.
        """
        if any(isinstance(child, TokenGate) for child in block.children()):
            raise BadInput("this block has a token gate already: apply each token plan to the model it was made for")
        if any(name in self._needs for name in ATTENTION_SIGNALS):
            attention.register_forward_pre_hook(self._watch, with_kwargs=True)
        # First in the row, so that whoever records hidden states sees the tokens that stay.
        block.register_forward_hook(self._cut, prepend=True)
        block.add_module("token_gate", self)

    def __getstate__(self) -> dict[str, Any]:
        """Copies carry no activations of a pass that was cut short."""
        return {**self.__dict__, "_hidden": None}

    def extra_repr(self) -> str:
        return f"{self.policy.rule}, keeps {self.policy.count} tokens, select={self.policy.select}"

    def scores(self, attention: nn.Module, patches: Tensor) -> Tensor:
        """`[B, N]`, large stays. `patches` are the block's output without the prefix, `[B, N, d]`."""
        signals = TokenSignals(patches)
        if "cls_attention" in self._needs:
            signals.cls_attention = cls_attention(attention, self._seen(), prefix=self.prefix)
        if "received_attention" in self._needs:
            signals.received_attention = received_attention(attention, self._seen(), prefix=self.prefix)
        return self._rule(signals, **self._options)

    def select(self, scores: Tensor, patches: Tensor) -> Tensor:
        """`[B, T]`, ascending."""
        if self._select is None:
            return keep_top(scores, self.policy.count)
        selector, options = self._select
        if selector is vispruner:
            return keep_diverse(scores, patches, self.policy.count, **options)
        return self._select_each(selector, options, scores, patches)

    def _select_each(self, selector: Any, options: dict[str, Any], scores: Tensor, patches: Tensor) -> Tensor:
        """Any selector over units, one example at a time on the CPU."""
        kept: list[Tensor] = []
        for values, features in zip(scores.detach().cpu(), patches.detach().cpu()):
            ids = torch.arange(values.shape[0]).numpy()
            score = GroupScore(values.numpy(), ids, "keep", TokenSignals(features), "tokens")
            chosen = torch.as_tensor(selector(score, self.policy.count, **options))
            kept.append(chosen.sort().values)
        return torch.stack(kept).to(patches.device)

    def _watch(self, attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs.get("hidden_states", kwargs.get("query"))
        if hidden is None:
            raise BadInput(f"{type(attention).__name__} is called without a first argument or hidden_states")
        self._hidden = hidden
        self._attention = (attention,)  # in a tuple: not a child, or it would enter the state dict twice

    def _seen(self) -> Tensor:
        if self._hidden is None:
            raise BadInput("the attention of the gated block was not called, so its weights can't be recomputed")
        return self._hidden

    def _cut(self, block: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        whole = output[0] if isinstance(output, tuple) else output
        patches = whole[:, self.prefix :]
        self.incoming = patches.shape[1]
        if self.incoming <= self.policy.count:
            self.kept = torch.arange(self.incoming, device=whole.device).expand(whole.shape[0], -1)
            self._hidden = None
            return None
        attention = self._attention[0] if self._hidden is not None else block
        kept = self.select(self.scores(attention, patches), patches)
        self._hidden = None
        if not torch.compiler.is_exporting():
            self.kept = kept
        short = gather(whole, kept, prefix=self.prefix)
        return (short, *output[1:]) if isinstance(output, tuple) else short


def _bound(name: str, options: dict[str, Any], seed: int) -> tuple[Any, dict[str, Any]]:
    """A method and its options, `rng` included where it takes one. Looked up once: a forward pass must be traceable."""
    method = find(name)
    function = method.load()
    bound = dict(options)
    if "rng" in inspect.signature(function).parameters:
        bound["rng"] = Rng(seed, method.id)
    return function, bound


def gates(model: nn.Module) -> dict[str, TokenGate]:
    """Every gate of a model, by the name of its block."""
    return {name.rpartition(".")[0]: module for name, module in model.named_modules() if isinstance(module, TokenGate)}
