"""One rank of a training over gloo, as a script: rank, world size, file to meet at, method, output file."""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
import torch.distributed as dist

from prunus.core.errors import NonFinite
from prunus.rows.infobatch import InfoBatch
from prunus.rows.rs2 import RS2
from prunus.rows.sampler import BatchSampler, Sampler
from prunus.rows.seta import SeTa

ROWS, EPOCHS, BATCH = 61, 6, 8
METHODS = {
    "infobatch": lambda ids: InfoBatch(ids, epochs=EPOCHS, seed=1),
    "seta": lambda ids: SeTa(ids, epochs=EPOCHS, seed=1),
    "rs2": lambda ids: RS2(ids, fraction=0.4, seed=1),
}


def main() -> None:
    rank, world, meeting, name, out = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    ids = np.arange(ROWS) + 2**40  # past what float32 holds exactly
    dynamic = METHODS[name](ids)
    sampler = Sampler(dynamic, ids, rank=rank, world_size=world, uneven="drop")
    batches = BatchSampler(sampler, BATCH)
    report = {"shards": [], "plans": [], "lengths": [], "nan": ""}
    for _ in range(EPOCHS):
        report["lengths"].append(len(batches))
        shard = []
        for batch in batches:
            losses = torch.tensor([(37 * i % ROWS) / ROWS for i in batch], requires_grad=True)
            sampler.loss(torch.from_numpy(ids[batch]), losses).backward()
            shard += batch
        report["shards"].append(shard)
        report["plans"].append(dynamic.epoch(sampler.current - 1).ids.tolist())
    report["loss"] = getattr(dynamic, "loss", np.zeros(1)).tolist()
    if hasattr(dynamic, "loss"):
        try:
            mine = ids[[rank]]
            sampler.loss(mine, torch.tensor([float("nan") if rank else 1.0]))
        except NonFinite as error:
            report["nan"] = str(error)
    with open(out, "w") as file:
        json.dump(report, file)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
