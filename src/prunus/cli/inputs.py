"""What verbs are given: models by spec or saved folder, rows by spec, text cut into windows of tokens."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from prunus.cli.show import note
from prunus.core import files
from prunus.core.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from torch import nn

    from prunus.core.plan import Plan
    from prunus.prunables.dataset import Dataset

MODEL_SCHEMES = ("prunus", "timm", "torchvision", "transformers", "gguf", "package")
UNTRAINED = ("prunus", "timm", "torchvision")
DATA_SCHEMES = ("sklearn", "datasets")
TEXT_OPTIONS = ("window", "tokenizer")
WINDOW = 128
APPLIED = "applied.json"


@dataclass(frozen=True)
class Model:
    """A model in memory.

    Attributes:
        net: in evaluation mode.
        spec: as typed.
        made: source, classes, options: how its constructor makes the dense model; saved beside pruned weights.
        plans: what was already removed, in order.
        random: the weights are new ones.
        allow_code: for making it again.
    """

    net: nn.Module
    spec: str
    made: dict[str, Any]
    plans: tuple[Plan, ...] = field(default=())
    random: bool = False
    allow_code: bool = False

    @property
    def scheme(self) -> str:
        """timm, torchvision, ... of the constructor."""
        return self.made["source"].partition(":")[0]


def is_model(text: str) -> bool:
    """Whether a word names a model rather than rows. Opens nothing."""
    base = text.partition("?")[0]
    scheme, colon, rest = base.partition(":")
    if base.endswith(".gguf") or (colon and scheme in MODEL_SCHEMES):
        return True
    if Path(base).is_dir():
        return any((Path(base) / name).is_file() for name in (APPLIED, "config.json"))
    return bool(colon) and "//" not in rest and scheme not in DATA_SCHEMES and not Path(base).exists()


def is_folder_of(text: str, file: str) -> bool:
    """Whether a word names a folder that holds this file, as plans and scores do."""
    return (Path(text) / file).is_file()


def open_model(spec: str, *, like: str = "", allow_code: bool = False, trains: bool = False) -> Model:
    """The model a word names.

    Args:
        spec: as in flags.MODEL.
        like: for saved folders: the constructor, where `model.json` does not name one.
        allow_code: import code the spec names.
        trains: random weights are what the verb wants, so nothing is said about them.

    Raises:
        BadInput: not a model, or a saved folder whose constructor is unknown.
    """
    base, options = spec_parts(spec)
    if is_folder_of(base, APPLIED):
        if options:
            raise BadInput(f"{base} holds its own weights: options go behind --like")
        return _saved(base, like, allow_code)
    if is_folder_of(base, "plan.json"):
        raise BadInput(f"{base} is a plan, not a model: prunus apply {base} MODEL --out DIR makes the model")
    random = options.get("weights") is None and base.partition(":")[0] in UNTRAINED
    if random and not trains:
        note(
            f"note: {base} gets random weights; give it some: '{base}?weights=FILE.safetensors', or ?weights=pretrained"
        )
    net, made = _built(base, options, allow_code, weights="random" if random else None)
    return Model(net, spec, made, (), random, allow_code)


def fresh(model: Model, seed: int) -> nn.Module:
    """The model with new weights drawn from `seed`, or a copy of the weights it was given."""

    from prunus.sources import models

    if not model.random:
        from prunus.train.copies import copied

        return copied(model.net)
    made = model.made
    return models.open_model(
        made["source"], allow_code=model.allow_code, num_classes=made["classes"], options=made["options"],
        weights=models.RANDOM, seed=seed,
    )  # fmt: skip


def spec_parts(spec: str) -> tuple[str, dict[str, Any]]:
    """What stands before the `?` of a word, and the options behind it as values."""
    base, _, query = spec.partition("?")
    return base, {key: _value(text) for key, text in parse_qsl(query, keep_blank_values=True)}


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _built(
    base: str, given: dict[str, Any], allow_code: bool, *, weights: str | None
) -> tuple[nn.Module, dict[str, Any]]:
    """A model and how it was made. `weights="random"` where only its shape matters."""
    from prunus.sources import models

    options = dict(given)
    known = {"num_classes": options.pop("classes", None), "dtype": options.pop("dtype", None)}
    chosen = weights or options.pop("weights", None)
    seed = options.pop("seed", 0)
    options.pop("weights", None)
    net = models.open_model(base, allow_code=allow_code, weights=chosen, seed=seed, options=options, **known)
    return net, {"source": base, "classes": known["num_classes"], "options": options}


def _saved(folder: str, like: str, allow_code: bool) -> Model:
    from prunus.flow import save
    from prunus.run.models_on_disk import plans_of
    from prunus.sources import models

    place = Path(folder)
    if like:
        base, options = spec_parts(like)
        net, made = _built(base, options, allow_code, weights="random")
    elif (place / "model.json").is_file():
        made = files.read_json(place / "model.json")
        config = place / "config"
        source = f"transformers:{config}" if config.is_dir() else made["source"]
        named = {} if config.is_dir() else {"num_classes": made["classes"], "options": made["options"]}
        net = models.open_model(source, allow_code=allow_code, weights=models.RANDOM, **named)
    else:
        raise BadInput(f"{folder} does not say how its dense model is made: add --like SPEC, such as timm:resnet18")
    return Model(save.load(place, net), folder, made, tuple(plans_of(place)))


def save_model(model: Model, net: nn.Module, plans: tuple[Plan, ...], out: Path) -> Path:
    """Write a model that came from `model`: weights, plans, and how its dense constructor is called."""
    from prunus.run.models_on_disk import write_model

    write_model(net, list(plans), out, made=model.made)
    return out


def open_rows(spec: str, *, role: str = "fit", size: int = 0, model: Model | None = None) -> Dataset:
    """Rows by spec; text files become windows of tokens.

    Args:
        spec: as in flags.DATA; `?window=128&tokenizer=SPEC` for text.
        role: unless the spec says another.
        size: of images; 0 leaves them.
        model: whose tokenizer text is read with, unless the spec names one.
    """
    from prunus.sources.open import open_data

    base, query = spec, ""
    if "?" in spec and not spec.startswith(("http://", "https://")):
        base, _, query = spec.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    wants_windows = any(name in given for name in TEXT_OPTIONS)
    if wants_windows or (base.endswith(".txt") and model is not None):
        return _windows(base, given, role, model)
    if size and "size" not in given:
        return open_data(spec, role=role, size=size)
    return open_data(spec, role=role)


def _windows(base: str, given: dict[str, str], role: str, model: Model | None) -> Dataset:
    from prunus.sources.models import open_tokenizer
    from prunus.sources.text import open_text

    known = ("window", "tokenizer", "role", "limit", "skip", "stride")
    if unknown := [name for name in given if name not in known]:
        raise UnknownName("option of text", unknown[0], known)
    tokenizer = given.get("tokenizer") or (model.made["source"] if model is not None else "")
    if not tokenizer:
        raise BadInput(f"{base}: name the tokenizer too: '{base}?window=128&tokenizer=SPEC' ('bytes' needs no file)")
    numbers: dict[str, Any] = {name: _whole(name, given[name]) for name in ("limit", "skip", "stride") if name in given}
    length = _whole("window", given.get("window", str(WINDOW)))
    return open_text(base, open_tokenizer(tokenizer), length=length, role=given.get("role", role), **numbers)


def _whole(name: str, text: str) -> int:
    if not text.isdecimal():
        raise BadInput(f"{name} is a whole number, not {text!r}")
    return int(text)


def require_fit(model: Model, data: Dataset) -> None:
    """Run two rows, so that a model and rows that don't go together are refused in words.

    Raises:
        BadInput: the model can't take these rows.
    """
    import torch

    from prunus.prunables.example import example_of
    from prunus.train.feed import Feed
    from prunus.train.step import infer_step, plain

    batch = plain(next(iter(Feed(data, 2).epoch(0, 0))))
    try:
        with torch.no_grad():
            infer_step(batch)(model.net, batch)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        if isinstance(error, BadInput):
            raise
        shown = _shapes(example_of(data, model.net))
        first = str(error).strip().partition("\n")[0]
        raise BadInput(
            f"{model.spec} can't take rows of {data.name}, which are {shown}: {first}; change the rows (--size, "
            "'DATA?x=COLUMN') or the model"
        ) from error


def _shapes(example: Any) -> str:
    if isinstance(example, dict):
        return ", ".join(f"{name} {list(value.shape)}" for name, value in example.items())
    parts = example if isinstance(example, tuple) else (example,)
    return ", ".join(str(list(part.shape)) for part in parts)
