"""A masked copy for research: dropped units are zero in every writer, reader and vector; size and time stay."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from prunus.graph.build import Graph
from prunus.graph.cut import Keep, check_keep, check_model
from prunus.graph.record import named_tensors
from prunus.train.copies import copied


def mask(model: nn.Module, graph: Graph, keep: Keep, *, inplace: bool = False) -> nn.Module:
    """The model with zeros where the cut would remove.

    A norm over a pruned axis still divides by the dense width, so only the cut is exact there (`prove`).

    Args:
        keep: group name -> sorted kept unit ids.
        inplace: change `model` itself.
    """
    check_keep(graph, keep)
    check_model(model, graph)
    masks = graph.masks(keep)
    result = model if inplace else copied(model)
    done: set[int] = set()
    with torch.no_grad():
        for name, tensor in named_tensors(result).items():
            if name not in graph.parameters or id(tensor) in done:
                continue
            done.add(id(tensor))
            for axis, kept in enumerate(graph.kept(name, masks)):
                if not kept.all():
                    places = torch.from_numpy(np.flatnonzero(~kept)).to(tensor.device)
                    tensor.index_fill_(axis, places, 0)
    return result
