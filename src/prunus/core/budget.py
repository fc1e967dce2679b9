"""Budget: what STAYS, in one language for every unit.

`"30% rows"`, `"5000 rows"`, `"50% macs"`, `"60% params"`, `"64 tokens"`, `"26 layers"`, `"75% experts"`,
`"50% weights"`, `"2:4"` (keeps 2 of 4), `"drop 6 layers"`, `"sparsity 90%"`, and `"60% params and 50% macs"`.

Milliseconds say of what: `"15 ms at batch 16, 2 threads, float32"`. Left out, they are batch 1, 1 thread and the model's own type.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from prunus.core.errors import BadInput, BudgetUnreachable, UnknownName

ALIASES = {
    alias: quantity
    for quantity, names in {
        "rows": ("row", "sample", "samples", "example", "examples", "image", "images", "document", "documents"),
        "pairs": ("pair",),
        "tables": ("table",),
        "weights": ("weight",),
        "channels": ("channel",),
        "layers": ("layer", "blocks", "block"),
        "ranks": ("rank",),
        "experts": ("expert",),
        "tokens": ("token",),
        "params": ("param", "parameters", "parameter"),
        "macs": ("mac",),
        "ms": (),
    }.items()
    for alias in (quantity, *names)
}
UNIT_OF = {"params": "channels", "macs": "channels", "ms": "channels"}
_NUMBER = r"(\d[\d_]*\.?\d*)\s*(%?)"
STEP, STEP_FROM = 8, 128  # chosen by benchmarks/realised_speed.py
_DTYPES = ("float32", "float64", "bfloat16", "float16")
_SLACK = 1e-9  # 0.3 * 10 must count as 3


@dataclass(frozen=True)
class Term:
    """One condition.

    Attributes:
        amount: a share in [0, 1] when `relative`, else an absolute number.
        relative: whether `amount` is a share of the dense total.
        quantity: rows, params, macs, ...
        dropped: the amount was given as what goes (only absolute ones; shares are turned over when parsed).
    """

    amount: float
    relative: bool
    quantity: str
    dropped: bool = False

    def limit(self, total: float) -> float:
        """How much of `total` may stay."""
        if self.relative:
            return self.amount * total
        return total - self.amount if self.dropped else self.amount

    def __str__(self) -> str:
        if self.relative:
            return f"keeps {_percent(self.amount)} of {self.quantity}, drops {_percent(1 - self.amount)}"
        if self.quantity == "ms" and not self.dropped:
            return f"takes {_number(self.amount)} ms at most"
        verb, other = ("drops", "keeps") if self.dropped else ("keeps", "drops")
        return f"{verb} {_number(self.amount)} {self.quantity}, {other} the rest"


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _number(value: float) -> str:
    return f"{value:,.6g}" if value < 1e6 else f"{value:,.0f}"


@dataclass(frozen=True)
class Limits:
    """A budget in absolute numbers.

    Attributes:
        dense: quantity -> of the dense model.
        most: quantity -> what may stay.
    """

    dense: Mapping[str, float]
    most: Mapping[str, float]

    def met(self, found: Mapping[str, float]) -> bool:
        """Whether a model with these quantities is within every limit, but for rounding of floats."""
        return all(found[quantity] <= limit * (1 + 1e-12) for quantity, limit in self.most.items())

    def shown(self, found: Mapping[str, float]) -> str:
        """`41% macs and 50% params`: what a model has of the quantities that are limited."""
        return " and ".join(f"{100 * found[quantity] / self.dense[quantity]:.4g}% {quantity}" for quantity in self.most)


@dataclass(frozen=True)
class Budget:
    """What stays, and how strictly.

    Attributes:
        terms: conditions that must all hold.
        nm: (kept, of) for N:M sparsity.
        tolerance: allowed |planned - asked| / dense; None means max(1 %, one rounding step).
        floor: least number of units kept in each group.
        round_to: kept channel counts are multiples of this; None: of 8 in groups of 128 units or more where the budget names macs or
            ms, because odd widths run slower than the MACs say (docs/results/speed.md).
        same_shape: equal widths in every layer.
        pin, ban: ids that must stay, ids that must go.
        batch, threads, dtype: what milliseconds are measured with; dtype "" is the model's own.
    """

    terms: tuple[Term, ...] = ()
    nm: tuple[int, int] | None = None
    tolerance: float | None = None
    floor: int = 1
    round_to: int | None = None
    same_shape: bool = False
    pin: tuple[int | str, ...] = ()
    ban: tuple[int | str, ...] = ()
    batch: int = 1
    threads: int = 1
    dtype: str = ""

    def __post_init__(self) -> None:
        if self.floor < 0 or (self.round_to is not None and self.round_to < 1):
            raise BadInput(f"floor must be >= 0 and round_to >= 1, not {self.floor} and {self.round_to}")
        if self.batch < 1 or self.threads < 1:
            raise BadInput(f"batch and threads must be >= 1, not {self.batch} and {self.threads}")
        if self.dtype not in ("", *_DTYPES):
            raise UnknownName("type of numbers", self.dtype, _DTYPES)
        if both := set(self.pin) & set(self.ban):
            raise BadInput(f"ids can't be pinned and banned at once: {sorted(both, key=str)[:5]}")
        if len({t.quantity for t in self.terms}) < len(self.terms):
            raise BadInput(f"a quantity may appear once in a budget: {' and '.join(t.quantity for t in self.terms)}")

    @classmethod
    def parse(cls, text: str | Budget, **options: Any) -> Budget:
        """Read a budget.

        Args:
            text: as in the module's first lines; a Budget passes through.
            **options: tolerance, floor, round_to, same_shape, pin, ban, batch, threads, dtype.

        Raises:
            BadInput: the text is not a budget, or a share is outside 0..100 %.
        """
        known = [f.name for f in fields(cls) if f.name not in ("terms", "nm")]
        for name in options:
            if name not in known:
                raise UnknownName("budget option", name, known)
        if isinstance(text, Budget):
            return replace(text, **options)
        parts = re.split(r"\s+and\s+|\s*&\s*", text.strip().lower())
        if len(parts) == 1 and (match := re.fullmatch(r"(\d+):(\d+)(?:\s+weights?)?", parts[0])):
            kept, of = int(match[1]), int(match[2])
            if not 0 < kept <= of:
                raise BadInput(f"{text!r} keeps {kept} of {of}: N:M needs 0 < N <= M")
            return cls(nm=(kept, of), **options)
        found = [_timing(part, text) for part in parts]
        told = {name: value for _, timing in found for name, value in timing.items()}
        return cls(terms=tuple(_term(part, text) for part, _ in found), **{**told, **options})

    @property
    def term(self) -> Term:
        """The single term; an error for conjunctions and N:M."""
        if len(self.terms) != 1:
            raise BadInput(f"this method takes one quantity, the budget is {self}")
        return self.terms[0]

    @property
    def quantity(self) -> str:
        """rows, params, macs, ... of the single term; `weights` for N:M."""
        return "weights" if self.nm else self.term.quantity

    @property
    def unit(self) -> str:
        """The unit that is removed to meet it: params and macs are met by removing channels."""
        if self.nm:
            return "weights"
        own = [t.quantity for t in self.terms if t.quantity not in UNIT_OF]
        if len(own) > 1:
            raise BadInput(f"one plan removes one unit, the budget names {' and '.join(own)}: make one plan for each")
        return own[0] if own else UNIT_OF[self.terms[0].quantity]

    @property
    def units(self) -> tuple[str, ...]:
        """Every unit whose removal can meet it, the usual one first: params and macs fall with channels, and with ranks."""
        others = (
            ("ranks",) if self.unit == "channels" and all(t.quantity in ("params", "macs") for t in self.terms) else ()
        )
        return (self.unit, *others)

    def step(self, size: int) -> int:
        """What the kept count of a group of `size` units is a multiple of."""
        if self.round_to is not None:
            return self.round_to
        timely = any(term.quantity in ("macs", "ms") for term in self.terms)
        return STEP if timely and size >= STEP_FROM else 1

    def rounded(self, kept: int, size: int) -> int:
        """The next kept count of a group of `size` units that is a multiple of its step, at most all of them."""
        step = self.step(size)
        return min(-(-kept // step) * step, size)

    def limits(self, dense: Mapping[str, float]) -> Limits:
        """What each term allows of a model that has `dense` of each quantity."""
        return Limits(dense, {term.quantity: term.limit(dense[term.quantity]) for term in self.terms})

    @property
    def keeps_all(self) -> bool:
        """True for 100 %: the one budget under which a plan may remove nothing."""
        if self.nm:
            return self.nm[0] == self.nm[1]
        return all(t.relative and t.amount >= 1 for t in self.terms)

    def count(self, total: int) -> int:
        """Units kept out of `total`: the integer part of the share.

        Raises:
            BudgetUnreachable: nothing would stay, or more is asked than there is.
        """
        term = self.term
        kept = math.floor(term.limit(total) + _SLACK)
        if kept > total:
            raise BudgetUnreachable(
                f"{self} asks for {kept} of {total} {term.quantity}", nearest=f"{total} {term.quantity}"
            )
        if kept < 1:
            raise BudgetUnreachable(f"{self} would keep none of {total} {term.quantity}", nearest=f"1 {term.quantity}")
        return kept

    def drop_count(self, total: int) -> int:
        """Units dropped out of `total` where papers round the dropped side down: the sparsity of a matrix."""
        term = self.term
        return total - self.count(total) if not term.relative else math.floor(total * (1 - term.amount) + _SLACK)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Budget:
        """Read `to_json`."""
        terms = tuple(Term(**term) for term in value["terms"])
        nm = tuple(value["nm"]) if value["nm"] else None
        rest = {k: v for k, v in value.items() if k not in ("terms", "nm", "pin", "ban")}
        return cls(terms=terms, nm=nm, pin=tuple(value["pin"]), ban=tuple(value["ban"]), **rest)  # type: ignore[arg-type]

    def __str__(self) -> str:
        if self.nm:
            kept, of = self.nm
            return f"keeps {kept} of every {of} weights, drops {of - kept} ({_percent(1 - kept / of)} sparsity)"
        return " and ".join(f"{term}{self._timed(term)}" for term in self.terms)

    def _timed(self, term: Term) -> str:
        """What milliseconds are measured with, as `parse` reads it; "" behind other quantities."""
        if term.quantity != "ms":
            return ""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return " at " + ", ".join(filter(None, [f"batch {self.batch}", threads, self.dtype]))

    def short(self) -> str:
        """As a person would type it: `30% rows`."""
        if self.nm:
            return f"{self.nm[0]}:{self.nm[1]}"
        texts: list[str] = []
        for t in self.terms:
            amount = f"{100 * t.amount:.6g}%" if t.relative else f"{t.amount:.10g}"
            texts.append(f"{'drop ' if t.dropped else ''}{amount} {t.quantity}{self._timed(t)}")
        return " and ".join(texts)


def _timing(part: str, whole: str) -> tuple[str, dict[str, Any]]:
    """A condition without what its milliseconds are measured with, and that by name."""
    head, ms, rest = part.partition(" ms ")
    if not ms:
        return part, {}
    told: dict[str, Any] = {}
    for piece in filter(None, re.split(r"\s*,\s*", rest.strip().removeprefix("at ").strip())):
        named = re.fullmatch(r"(batch|threads?)\s+(\d+)", piece)
        counted = re.fullmatch(r"(\d+)\s+threads?", piece)
        if named:
            told["batch" if named[1] == "batch" else "threads"] = int(named[2])
        elif counted:
            told["threads"] = int(counted[1])
        elif piece in _DTYPES:
            told["dtype"] = piece
        else:
            raise BadInput(f"{whole!r}: {piece!r} is not understood; write '15 ms at batch 16, 2 threads, float32'")
    return f"{head} ms", told


def _term(part: str, whole: str) -> Term:
    sparsity = re.fullmatch(rf"sparsity\s+{_NUMBER}(?:\s+weights?)?", part)
    if sparsity:
        if not sparsity[2]:
            raise BadInput(f"{whole!r}: write sparsity as a percentage, as in 'sparsity 90%'")
        return Term(_share(sparsity[1], whole, turned=True), True, "weights")
    match = re.fullmatch(rf"(drop\s+|keep\s+)?{_NUMBER}\s*(?:of\s+)?([a-z]+)", part)
    if not match:
        raise BadInput(
            f"{whole!r} is not a budget; write what stays: '30% rows', '50% macs', '26 layers', '2:4', 'drop 6 layers'"
        )
    drop, number, percent, word = (match[1] or "").startswith("drop"), match[2], match[3], match[4]
    if word not in ALIASES:
        raise UnknownName("quantity", word, ALIASES)
    quantity = ALIASES[word]
    if percent:
        return Term(_share(number, whole, turned=drop), True, quantity)
    amount = float(number.replace("_", ""))
    if quantity not in ("params", "macs", "ms") and amount != int(amount):
        raise BadInput(f"{whole!r}: {quantity} are counted in whole numbers; for a share write a percent sign")
    return Term(amount, False, quantity, dropped=drop)


def _share(number: str, whole: str, *, turned: bool) -> float:
    share = float(number.replace("_", "")) / 100
    if not 0 <= share <= 1:
        raise BadInput(f"{whole!r}: a share lies between 0 and 100 %")
    return round(1 - share, 12) if turned else share
