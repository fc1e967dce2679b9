"""Small files that the tests of sources open."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

CLASSES = ("ant", "bee", "cat")
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"_type": "ClassLabel", "names": list(CLASSES)},
}


def picture(seed: int, side: int = 8, kind: str = "PNG") -> bytes:
    noise = np.random.Generator(np.random.PCG64(seed)).integers(0, 256, (side, side, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(noise).save(sink, kind)
    return sink.getvalue()


def image_table(count: int = 12, first: int = 0) -> pa.Table:
    rows = range(first, first + count)
    cells = [{"bytes": picture(i), "path": f"{CLASSES[i % 3]}/{i:03d}.png"} for i in rows]
    table = pa.table({"image": cells, "label": pa.array([i % 3 for i in rows], type=pa.int64())})
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})


def write_parquet(path: Path, table: pa.Table | None = None, groups: int = 3) -> Path:
    table = image_table() if table is None else table
    pq.write_table(table, path, row_group_size=-(-table.num_rows // groups), write_page_checksum=True)
    return path


def image_folder(root: Path, count: int = 9) -> Path:
    for i in range(count):
        file = root / CLASSES[i % 3] / f"{i:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(i))
    return root


def broken_parquet(path: Path) -> Path:
    """Three row groups of four rows; the image bytes of the second are overwritten."""
    write_parquet(path)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    offsets = (column.dictionary_page_offset, column.data_page_offset)
    start = min(offset for offset in offsets if offset is not None)
    data = bytearray(path.read_bytes())
    size = column.total_compressed_size
    data[start : start + size] = b"\x77" * size
    path.write_bytes(bytes(data))
    return path
