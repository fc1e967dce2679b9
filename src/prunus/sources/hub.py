"""Hugging Face data sets: folders that `save_to_disk` wrote, and names on the hub (kept in the user's own cache)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunus.core.errors import BadInput, CorruptFile, require
from prunus.prunables.tables import HuggingFace


def hub_rows(name: str, *, split: str | None) -> HuggingFace:
    """One split of a data set. Repository code is never run.

    Args:
        name: a folder, or a name on the hub, with a configuration after a comma: `glue,sst2`.
        split: which; may be left out where there is one only.
    """
    datasets = require("datasets", "data")
    found = _from_folder(datasets, name) if Path(name).is_dir() else _from_hub(datasets, name, split)
    if isinstance(found, Mapping):
        found = _one_split(found, name, split)
    if not hasattr(found, "select"):
        raise BadInput(f"{name} is a stream ({type(found).__name__}): rows can't be pruned without an index")
    return HuggingFace(found)


def _from_folder(datasets: Any, name: str) -> Any:
    folder = Path(name)
    saved = (folder / "state.json").exists() or (folder / "dataset_dict.json").exists()
    try:
        return datasets.load_from_disk(name) if saved else datasets.load_dataset(name)
    except (OSError, ValueError, KeyError) as error:
        raise CorruptFile(f"{name} holds no whole data set: {type(error).__name__}: {error}") from error


def _from_hub(datasets: Any, name: str, split: str | None) -> Any:
    base, _, config = name.partition(",")
    try:
        return datasets.load_dataset(base, config or None, split=split)
    except (OSError, ValueError, RuntimeError) as error:  # no network, not in the cache, no such split or configuration
        raise BadInput(
            f"data set {name!r}: {hub_reason(error)}; a folder works offline: datasets:/path/to/saved"
        ) from error


def hub_reason(error: Exception) -> str:
    """What went wrong with the hub, in words a user can act on."""
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if offline:
        return f"HF_HUB_OFFLINE is set and it is not in the local cache ({first})"
    return f"it could not be had from the hub or the local cache ({first})"


def _one_split(found: Mapping[str, Any], name: str, split: str | None) -> Any:
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    if split is None or split not in found:
        raise BadInput(f"{name} has splits {', '.join(found)}: choose one with split=, not {split!r}")
    return found[split]
