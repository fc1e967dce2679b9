"""Images in class sub-folders: `root/dog/0461.jpg`. The id is the path relative to the root; bytes are read late."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from prunus.core.errors import BadInput, UnknownName
from prunus.sources.location import Location

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


class FolderRows:
    """Files of an image folder. Without sub-folders there are no labels."""

    uncached = None

    def __init__(
        self, root: Location, files: Sequence[Location] | None = None, classes: Sequence[str] | None = None
    ) -> None:
        self.root = root
        self.files = list(root.files(*SUFFIXES)) if files is None else list(files)
        if not self.files and files is None:
            raise BadInput(f"{root.path} holds no images ({', '.join(SUFFIXES)})")
        folders = sorted({file.relative.split("/")[0] for file in self.files if "/" in file.relative})
        flat = [file.relative for file in self.files if "/" not in file.relative]
        if folders and flat and files is None:
            raise BadInput(
                f"{root.path} has images both in class folders and beside them, such as {flat[:3]}: move one kind away"
            )
        self.classes = list(classes) if classes is not None else (folders or None)

    def __len__(self) -> int:
        return len(self.files)

    def names(self) -> list[str]:
        return ["image", "label"] if self.classes else ["image"]

    def default_ids(self) -> np.ndarray:
        """Path relative to the root, unicode `[n]`."""
        return np.array([file.relative for file in self.files], dtype=np.str_)

    def column(self, name: str) -> np.ndarray | None:
        if name == "label" and self.classes:
            return np.array([file.relative.split("/")[0] for file in self.files], dtype=np.str_)
        if name == "path":
            return self.default_ids()
        raise UnknownName("column", name, ["label", "path"])

    def rows(self, positions: np.ndarray, columns: Sequence[str] | None = None) -> dict[str, Any]:
        chosen = [self.files[place] for place in positions.tolist()]
        rows: dict[str, Any] = {}
        if columns is None or "image" in columns:
            rows["image"] = [_bytes(file) for file in chosen]
        if self.classes and (columns is None or "label" in columns):
            rows["label"] = [file.relative.split("/")[0] for file in chosen]
        return rows

    def protocols(self) -> tuple[str, ...]:
        """Of the file system the images are on."""
        return self.root.protocols()

    def select(self, positions: np.ndarray) -> FolderRows:
        return FolderRows(self.root, [self.files[place] for place in positions.tolist()], self.classes)

    def native(self) -> None:
        return None

    def digest(self, *, verify: bool, order: np.ndarray | None = None) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for file in self.files:
            digest.update(file.identity(verify=verify).encode() + b"\n")
        return digest.hexdigest()


def _bytes(file: Location) -> dict[str, Any]:
    """The cell of an image; a file that can't be read becomes an unreadable row, not an error of the whole batch."""
    try:
        return {"bytes": file.read(), "path": file.relative}
    except OSError:
        return {"bytes": None, "path": file.relative}
