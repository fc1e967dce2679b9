"""What a run takes from outside: paths below PRUNUS_DATA, and fingerprints of files for the keys of its stages."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from prunus import __version__
from prunus.core.errors import BadInput
from prunus.core.fingerprint import Digest, fingerprint_file, hash_file

PACKAGE_OF = {"sklearn": "scikit-learn", "timm": "timm", "torchvision": "torchvision", "datasets": "datasets"}
PINNED = ("pin", "ban")
_SCHEME = re.compile(r"([A-Za-z][\w+.-]*):(.*)", re.DOTALL)


def placed(source: str) -> str:
    """A relative path that is not here is looked for below PRUNUS_DATA; everything else stays as it is."""
    path, mark, options = source.partition("?")
    root = os.environ.get("PRUNUS_DATA", "")
    if not path or _SCHEME.fullmatch(path) or os.path.isabs(path) or os.path.exists(path) or not root:
        return source
    return str(Path(root) / path) + mark + options


def source_fact(source: str, digest: Digest = hash_file) -> str:
    """Identity of a data source: the content of its files, what another file system says, or the package that brings it."""
    path = source.partition("?")[0]
    if "://" in path:
        from prunus.sources.location import locate

        return locate(path).stat()
    if (scheme := _SCHEME.fullmatch(path)) is not None:
        return f"{scheme[1]} {_version(PACKAGE_OF.get(scheme[1], ''))}"
    return fingerprint_file(placed(path), digest)


def data_facts(params: Mapping[str, Any], digest: Digest = hash_file) -> dict[str, str]:
    """Facts of a data stage: every source it reads."""
    roles = {role: (params.get(role) or {}).get("source", "") for role in ("fit", "val", "test")}
    return {
        name: source_fact(source, digest) for name, source in {"source": params["source"], **roles}.items() if source
    }


def model_facts(params: Mapping[str, Any], digest: Digest = hash_file) -> dict[str, str]:
    """Facts of a model stage: who builds it, and the file of weights."""
    facts = {"source": _model_fact(params["source"], digest)}
    weights = params.get("weights", "")
    if weights and weights not in ("random", "pretrained"):
        facts["weights"] = fingerprint_file(placed(weights), digest)
    return facts


def plan_facts(params: Mapping[str, Any], digest: Digest = hash_file) -> dict[str, str]:
    """Facts of a plan stage: the files of ids that must stay or go, and those of a target."""
    pinned = {name: source_fact(params[name], digest) for name in PINNED if params.get(name)}
    return pinned | target_facts(params, digest)


def target_facts(params: Mapping[str, Any], digest: Digest = hash_file) -> dict[str, str]:
    """Facts of a score or plan stage: the files of the target that the method or the selector compares with."""
    options = [(params.get(name) or {}).get("options", {}) for name in ("method", "select")]
    paths = {path for one in options for path in _listed(one.get("target", []))}
    return {f"target {path}": source_fact(path, digest) for path in sorted(paths)}


def with_target(options: Mapping[str, Any]) -> dict[str, Any]:
    """A method's options, the paths of its target placed below PRUNUS_DATA where they are not here."""
    if "target" not in options:
        return dict(options)
    return {**options, "target": [placed(path) for path in _listed(options["target"])]}


def _listed(paths: str | list[str]) -> list[str]:
    return [paths] if isinstance(paths, str) else paths


def _model_fact(source: str, digest: Digest) -> str:
    scheme, _, name = source.partition(":")
    if scheme in ("gguf", "package", "transformers") or source.endswith(".gguf"):
        from prunus.sources.pretrained import found

        folder, file = found(scheme, name) if name else ("", source)
        path = Path(folder) / file if file else Path(folder)
        return fingerprint_file(path, digest) if path.exists() else source
    if scheme == "prunus":
        return f"prunus {__version__}"
    if scheme in PACKAGE_OF:
        return f"{scheme} {_version(PACKAGE_OF[scheme])}"
    return _code_fact(source, digest)


def _code_fact(source: str, digest: Digest) -> str:
    """The user's own code counts with the file that holds it."""
    import importlib.util

    module = source.partition(":")[0]
    try:
        spec = None if module.endswith(".py") else importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    path = Path(module) if module.endswith(".py") else Path((spec.origin if spec else None) or "")
    if not path.is_file():
        raise BadInput(f"{source!r} names no model: write kind:name, or module:function with --allow-code")
    return fingerprint_file(path, digest)


def _version(package: str) -> str:
    try:
        return metadata.version(package) if package else ""
    except metadata.PackageNotFoundError:
        return "not installed"
