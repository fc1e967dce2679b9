"""Groups as criteria see them, made by hand: random readers and writers with real statistics of random inputs."""

from __future__ import annotations

from types import SimpleNamespace

import torch


def member(weight, inputs=None, name="m"):
    """A Member of `weight [units, per_unit, other]`; `inputs [units * per_unit, rows]` fill in its statistics."""
    made = SimpleNamespace(name=name, module=name, parameter=f"{name}.weight", weight=weight, grad=None, bias=None)
    made.outputs = {}
    if inputs is None:
        return made
    inputs, shape = inputs.double(), weight.shape[:2]
    made.input_mean, made.input_var = inputs.mean(1).reshape(shape), inputs.var(1).reshape(shape)
    made.input_norm, made.hessian = inputs.norm(dim=1).reshape(shape), 2 * inputs @ inputs.T
    return made


def group(readers=(), writers=(), vectors=(), size=None):
    """A bound group."""
    members = (*readers, *writers, *vectors)
    return SimpleNamespace(
        name="g", size=size or members[0].weight.shape[0], readers=readers, writers=writers, vectors=vectors
    )


def random_group(seed, units=6, per_unit=2, outputs=3, rows=30):
    """One writer, two readers of other inputs, one norm."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    readers = tuple(
        member(
            draw(units, per_unit, outputs + i), draw(units * per_unit, rows) + draw(units * per_unit, 1), f"reader{i}"
        )
        for i in range(2)
    )
    made = group(readers, (member(draw(units, 1, 4), name="writer"),), (member(draw(units, 1, 1), name="norm"),))
    for one in (*made.readers, *made.writers, *made.vectors):
        one.grad, one.grad_square = draw(*one.weight.shape), draw(*one.weight.shape).square()
    for reader in made.readers:
        reader.input_off = draw(units, per_unit).sigmoid()
        reader.input_rank, reader.input_pooled = draw(units, per_unit).abs(), draw(units, per_unit, rows)
    for signal in ("output_relevance", "output_relevance_signed", "output_spread"):
        made.writers[0].outputs[signal] = draw(units, 1).abs()
    return made
