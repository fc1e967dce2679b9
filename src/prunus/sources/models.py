"""open_model and open_tokenizer: one entry for models of timm, torchvision, transformers, GGUF files, packages and prunus itself.

Nothing is unpickled and no code of a model repository is run; `module:function` needs `allow_code`.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus.core.errors import BadInput, UnknownName, require
from prunus.core.rng import torch_rng
from prunus.sources import pretrained
from prunus.sources.weights import load_weights, read_weights

if TYPE_CHECKING:
    import torch
    from torch import nn

SCHEMES = ("prunus", "timm", "torchvision", "transformers", "gguf", "package")
RANDOM, PRETRAINED = "random", "pretrained"
log = logging.getLogger("prunus")


def open_model(
    spec: str,
    *,
    allow_code: bool = False,
    device: str = "cpu",
    dtype: str | torch.dtype | None = None,
    num_classes: int | None = None,
    weights: str | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A model in evaluation mode.

    Args:
        spec: `prunus:resnet20`, `timm:NAME`, `torchvision:NAME`, `transformers:FOLDER_OR_NAME`, `gguf:FILE`,
            `package:NAME` (a GGUF file or model folder inside an installed package), or with `allow_code`
            `module:function` or `file.py:function`, which is called and must return a module.
        allow_code: import and call Python code named in `spec`.
        device: where to put it.
        dtype: such as float32 or bfloat16; default the checkpoint's own, float32 for GGUF.
        num_classes: outputs of the classifier, where the model has one.
        weights: a safetensors file; `pretrained` (downloaded from the model's own hub) or `random`. Default: the
            checkpoint itself for transformers, gguf and package, else random, which is said in the log.
        seed: of random weights. torch's own generator is left as it was.
        options: for the constructor of prunus, timm and torchvision models, as `{"dim": 64}`.

    Raises:
        BadInput: an unknown name (the nearest are given), weights that do not fit, code without `allow_code`,
            a hub that can't be reached.
        CorruptFile: a weight file that is not whole.
    """
    scheme, name = _parsed(spec)
    kind = _dtype(dtype)
    with _own_generator(seed):
        model = _built(scheme, name, spec, allow_code, num_classes, weights, kind, dict(options or {}))
    if weights not in (None, RANDOM, PRETRAINED):
        load_weights(model, read_weights(weights), source=weights)
    elif weights is None and scheme in ("prunus", "timm", "torchvision"):
        log.warning("%s has random weights: pass weights= a safetensors file, or 'pretrained'", spec)
    return model.to(device=device, dtype=kind).eval() if kind is not None else model.to(device).eval()


def _parsed(spec: str) -> tuple[str, str]:
    """(scheme, name); a plain path to a folder or a GGUF file needs no scheme."""
    scheme, colon, name = spec.partition(":")
    if colon and scheme in SCHEMES:
        return scheme, name
    if spec.endswith(".gguf"):
        return "gguf", spec
    if Path(spec).is_dir():
        return "transformers", spec
    if colon and name:
        return "code", spec
    raise BadInput(f"can't tell what model {spec!r} is: say {', '.join(f'{known}:NAME' for known in SCHEMES)}")


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    import torch

    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise BadInput(f"dtype must be float32, float64, bfloat16 or float16, not {dtype!r}")
    return found


class _own_generator:
    """Weights drawn inside come from `seed`; torch's global generator is put back afterwards."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __enter__(self) -> None:
        import torch

        self._before = torch.get_rng_state()
        torch.set_rng_state(torch_rng(self._seed, "weights").get_state())

    def __exit__(self, *_: object) -> None:
        import torch

        torch.set_rng_state(self._before)


def _built(
    scheme: str,
    name: str,
    spec: str,
    allow_code: bool,
    num_classes: int | None,
    weights: str | None,
    dtype: torch.dtype | None,
    options: dict[str, Any],
) -> nn.Module:
    if options and scheme not in ("prunus", "timm", "torchvision"):
        raise BadInput(f"models of {scheme} take no constructor options, got {', '.join(options)}")
    if scheme == "code":
        return _from_code(spec, allow_code, num_classes)
    if scheme == "prunus":
        return _own(name, num_classes, options)
    if scheme == "timm":
        return _timm(name, num_classes, weights == PRETRAINED, options)
    if scheme == "torchvision":
        return _torchvision(name, num_classes, weights == PRETRAINED, options)
    folder, gguf = pretrained.found(scheme, name)
    return pretrained.transformers_model(folder, gguf, dtype=dtype, num_classes=num_classes, random=weights == RANDOM)


def _own(name: str, num_classes: int | None, given: dict[str, Any]) -> nn.Module:
    """The reference networks: resnet8, resnet20, ..., tinycnn, tinyvit."""
    from prunus.train import models

    classes = 10 if num_classes is None else num_classes
    if match := re.fullmatch(r"resnet(\d+)", name):
        depth = int(match[1])
        if depth < 8 or (depth - 2) % 6:
            raise BadInput(
                f"prunus:{name}: CIFAR ResNets have 6n + 2 layers: resnet8, resnet14, resnet20, ..., resnet56"
            )
        return models.CifarResNet(depth, classes=classes, **given)
    known: dict[str, Callable[..., nn.Module]] = {"tinycnn": models.TinyCNN, "tinyvit": models.TinyViT}
    if name not in known:
        raise UnknownName("model in prunus", name, [*known, "resnet8", "resnet20", "resnet56"])
    return known[name](classes=classes, **given)


def _timm(name: str, num_classes: int | None, with_weights: bool, given: dict[str, Any]) -> nn.Module:
    timm = require("timm", "vision")
    if not name.startswith(("hf-hub:", "hf_hub:", "local-dir:")) and not timm.is_model(name.partition(".")[0]):
        raise UnknownName("model in timm", name, timm.list_models())
    options: dict[str, Any] = {**given, **({} if num_classes is None else {"num_classes": num_classes})}
    if with_weights:
        # timm itself would fall back to pickled files where there are no safetensors.
        options["pretrained_cfg_overlay"] = {"file": pretrained.timm_weights(timm, name)}
    try:
        return timm.create_model(name, pretrained=with_weights, **options)
    except (OSError, RuntimeError) as error:
        raise BadInput(f"timm:{name}: {pretrained.hub_reason(error)}") from error


def _torchvision(name: str, num_classes: int | None, with_weights: bool, given: dict[str, Any]) -> nn.Module:
    models = require("torchvision.models", "vision")
    if name not in models.list_models():
        raise UnknownName("model in torchvision", name, models.list_models())
    builder = models.get_model_builder(name)
    # Detectors would otherwise download a backbone without being asked.
    bare = {"weights_backbone": None} if "weights_backbone" in inspect.signature(builder).parameters else {}
    options: dict[str, Any] = {**bare, **given}
    if num_classes is not None:
        options["num_classes"] = num_classes
    model = builder(weights=None, **options)
    if with_weights:
        load_weights(
            model, _torchvision_state(models, name), source=f"torchvision:{name}", partly=num_classes is not None
        )
    return model


def _torchvision_state(models: Any, name: str) -> Mapping[str, Any]:
    """Published weights, checked by the hash in their name and read without unpickling code."""
    from torch.hub import load_state_dict_from_url

    chosen = models.get_model_weights(name).DEFAULT
    try:
        return load_state_dict_from_url(
            chosen.url, progress=False, check_hash=True, map_location="cpu", weights_only=True
        )
    except (OSError, RuntimeError) as error:
        raise BadInput(f"torchvision:{name}: weights can't be downloaded from {chosen.url} ({error})") from error


def _from_code(spec: str, allow_code: bool, num_classes: int | None) -> nn.Module:
    from torch import nn

    if not allow_code:
        raise BadInput(
            f"{spec!r} names Python code ({', '.join(SCHEMES)} are the known schemes): it is run only with --allow-code"
        )
    function = pretrained.imported(spec)
    takes = inspect.signature(function).parameters
    model = function(**({"num_classes": num_classes} if num_classes is not None and "num_classes" in takes else {}))
    if not isinstance(model, nn.Module):
        raise BadInput(f"{spec} returned a {type(model).__name__}, not a torch.nn.Module")
    return model


def open_tokenizer(spec: str) -> Any:
    """The tokenizer of a model.

    Args:
        spec: as for `open_model` (transformers, gguf, package), a `tokenizer.json`, or `bytes` (256 tokens, no file).

    Raises:
        BadInput: there is none.
    """
    if spec == "bytes":
        from prunus.sources.text import ByteTokenizer

        return ByteTokenizer()
    if spec.endswith(".json"):
        return pretrained.tokenizer_file(spec)
    scheme, name = _parsed(spec)
    if scheme not in ("transformers", "gguf", "package"):
        raise BadInput(f"models of {scheme} have no tokenizer: name a transformers folder, a GGUF file or 'bytes'")
    return pretrained.transformers_tokenizer(*pretrained.found(scheme, name))
