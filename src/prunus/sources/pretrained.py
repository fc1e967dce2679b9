"""Models and tokenizers that transformers reads: folders, hub names, GGUF files, also from inside installed packages."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus.core.errors import BadInput, CorruptFile, require
from prunus.sources.hub import hub_reason

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["found", "hub_reason", "imported", "tokenizer_file", "transformers_model", "transformers_tokenizer"]


def found(scheme: str, name: str) -> tuple[str, str | None]:
    """(folder or hub name, GGUF file inside it or None).

    Raises:
        BadInput: no such file, folder or package.
    """
    if scheme == "package":
        return _in_package(name)
    path = Path(name).expanduser()
    if scheme == "gguf":
        if not path.is_file():
            raise BadInput(f"there is no GGUF file {name!r}")
        return str(path.parent), path.name
    if path.is_dir():
        if not (path / "config.json").is_file():
            files = sorted(file.name for file in path.iterdir())[:8]
            raise BadInput(
                f"{name} is no model folder: it has no config.json (it holds {', '.join(files) or 'nothing'})"
            )
        return str(path), None
    if path.is_absolute() or name.startswith((".", "~")):
        raise BadInput(f"there is no model folder {name!r}")
    return name, None


def _in_package(name: str) -> tuple[str, str | None]:
    """A model inside an installed package, which is not imported: its GGUF file, or the folder with config.json."""
    package, _, inside = name.partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError) as error:
        raise BadInput(f"package {package!r} can't be found: {error}") from error
    roots = [Path(place) for place in (spec.submodule_search_locations or [])] if spec is not None else []
    if not roots:
        raise BadInput(f"there is no installed package {package!r}: pip install {package.replace('_', '-')}")
    models = sorted(path for root in roots for path in (*root.rglob("*.gguf"), *root.rglob("config.json")))
    if inside:
        models = [path for path in models if any(path.is_relative_to(root / inside) for root in roots)]
    if any(path.suffix == ".gguf" for path in models):
        models = [path for path in models if path.suffix == ".gguf"]
    else:  # sentence-transformers keeps a config.json for each of its modules: the model's is the outermost
        models = sorted(models, key=lambda path: len(path.parts))[:1]
    if len(models) != 1:
        names = [str(path.relative_to(roots[0])) for path in models]
        raise BadInput(
            f"package {package} holds {len(models)} models{f': name one, such as package:{package}/{names[0]}' if names else ''}"
        )
    return (str(models[0].parent), models[0].name if models[0].suffix == ".gguf" else None)


def transformers_model(
    folder: str, gguf: str | None, *, dtype: torch.dtype | None, num_classes: int | None, random: bool
) -> nn.Module:
    """The class its config names, with its weights (safetensors or GGUF only) or random ones."""
    import torch

    transformers = require("transformers", "text")
    options: dict[str, Any] = {"gguf_file": gguf} if gguf else {}
    if gguf:
        require("gguf", "text")
    if num_classes is not None:
        options["num_labels"] = num_classes
    with _hub(folder, gguf):
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, **options)
        cls = _class_of(transformers, config, gguf is not None)
        if random:
            return cls.from_config(config) if hasattr(cls, "from_config") else cls(config)
        kind: Any = dtype if dtype is not None else (torch.float32 if gguf else "auto")
        source: dict[str, Any] = {"gguf_file": gguf} if gguf else {"use_safetensors": True}
        if num_classes is not None:
            source["ignore_mismatched_sizes"] = True
        # The config is passed on: reading it again from a GGUF file takes as long as the weights do.
        model, info = cls.from_pretrained(folder, config=config, dtype=kind, output_loading_info=True, **source)
    _refuse_random_parts(model, info, folder, num_classes)
    if gguf:
        _forget_quantisation(model)
    return model


def _forget_quantisation(model: nn.Module) -> None:
    """The weights are plain numbers now; with these marks of their past, transformers refuses to save them."""
    for owner, name in ((model.config, "quantization_config"), (model, "hf_quantizer"), (model, "quantization_method")):
        if name in vars(owner):
            delattr(owner, name)
    if "is_quantized" in vars(model):
        model.is_quantized = False  # type: ignore[assignment]


def _refuse_random_parts(model: nn.Module, info: dict[str, Any], folder: str, num_classes: int | None) -> None:
    """transformers fills what a checkpoint lacks with random numbers and goes on; only a new classifier may be so."""
    missing = sorted(info["missing_keys"])
    if num_classes is not None:
        base = getattr(model, "base_model_prefix", "") + "."
        missing = [name for name in missing if name.startswith(base)]
    if missing:
        total = len(model.state_dict())
        raise BadInput(f"{folder} lacks {len(missing)} of {total} tensors of {type(model).__name__}: {missing[:4]}")


def _class_of(transformers: Any, config: Any, causal: bool) -> Any:
    for name in config.architectures or ():
        found_class = getattr(transformers, name, None)
        if found_class is not None:
            return found_class
    return transformers.AutoModelForCausalLM if causal else transformers.AutoModel


class _hub:
    """Loading errors in words: an unreachable hub, a missing or broken file, pickled weights."""

    def __init__(self, folder: str, gguf: str | None) -> None:
        self._folder, self._gguf = folder, gguf

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None or isinstance(error, BadInput):
            return
        where = f"{self._folder}/{self._gguf}" if self._gguf else self._folder
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        local = Path(self._folder).is_dir()
        if local and isinstance(error, OSError) and "safetensors" in str(error):
            raise BadInput(
                f"{where} has no safetensors weights, and pickled ones are not read: convert them ({first})"
            ) from error
        if local and (isinstance(error, (OSError, ValueError, KeyError)) or type(error).__name__ == "SafetensorError"):
            raise CorruptFile(f"{where} can't be loaded: {type(error).__name__}: {first}") from error
        if isinstance(error, (OSError, ValueError)):
            raise BadInput(
                f"model {where!r}: {hub_reason(error)}; a folder works offline: transformers:/path"
            ) from error


def timm_weights(timm: Any, name: str) -> str:
    """The safetensors file of a timm model, from the hub or the local cache.

    Raises:
        BadInput: there is none, or it can't be had.
    """
    hub = require("huggingface_hub", "vision")
    prefix, _, rest = name.partition(":")
    repo = (
        rest
        if prefix in ("hf-hub", "hf_hub")
        else (timm.get_pretrained_cfg(name) or object()).__dict__.get("hf_hub_id")
    )
    if repo is None:
        raise BadInput(f"timm:{name} has no weights on the hub: timm.list_pretrained() names those that do")
    try:
        return hub.hf_hub_download(repo if "/" in repo else f"timm/{name}", "model.safetensors")
    except (OSError, ValueError) as error:
        raise BadInput(f"timm:{name}: {hub_reason(error)}") from error


def transformers_tokenizer(folder: str, gguf: str | None) -> Any:
    """The tokenizer beside a model."""
    transformers = require("transformers", "text")
    if gguf:
        require("gguf", "text")
    with _hub(folder, gguf):
        options = {"gguf_file": gguf} if gguf else {}
        return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)


def tokenizer_file(path: str) -> Any:
    """A `tokenizer.json` of the tokenizers library."""
    tokenizers = require("tokenizers", "text")
    if not Path(path).is_file():
        raise BadInput(f"there is no tokenizer file {path!r}")
    try:
        return tokenizers.Tokenizer.from_file(path)
    except Exception as error:  # the library raises plain Exception
        raise CorruptFile(f"{path} is no tokenizer: {error}") from error


def imported(spec: str) -> Callable[..., Any]:
    """The function `module:function` or `file.py:function` names; modules of the current folder are found too."""
    module_name, _, name = spec.rpartition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        module = _from_file(module_name) if module_name.endswith(".py") else importlib.import_module(module_name)
    except ImportError as error:
        raise BadInput(f"{spec}: module {module_name!r} can't be imported: {error}") from error
    finally:
        sys.path.remove(here)
    function = getattr(module, name, None)
    if not callable(function):
        public = [key for key in vars(module) if not key.startswith("_")][:10]
        raise BadInput(f"{module_name} has no function {name!r}; it has {', '.join(public)}")
    return function


def _from_file(path: str) -> Any:
    if not Path(path).is_file():
        raise BadInput(f"there is no file {path!r}")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise BadInput(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
