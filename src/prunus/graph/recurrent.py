"""Rules of the recurrent cells: hidden unit h owns row h of every gate in the weights and biases."""

from __future__ import annotations

from prunus.graph.rules import Step, rule


@rule("lstm", "gru", "rnn_tanh", "rnn_relu")
def cell(step: Step) -> None:
    """Recurrent layers: the input width can be pruned, the hidden width is tied gate by gate and then frozen.

    Frozen because the modules check `hidden_size` against every state they are given.
    """
    names = [name for name in ("params",) if name in step.given]
    if not names or not step.has("input"):
        return
    source = step.of("input")
    params = step.list("params")
    per_layer = 4 if step.get("has_biases", True) else 2
    first = [params[k] for k in range(0, len(params), per_layer)]
    directions = 2 if step.get("bidirectional", False) else 1
    for value in first[:directions]:
        step.tie(source[-1], step.dims[value][1])
        step.roles[(value, 1)] = "reader"
    for value in params:
        for axis, dim in enumerate(step.dims[value]):
            if not (value in first[:directions] and axis == 1):
                step.stop([dim], "hidden width of a recurrent layer")
    step.note.contracted.append((step.id("input"), len(source) - 1))
    _count(step, first, params, per_layer)
    step.stop(source[:-1], "time axis of a recurrent layer")
    for value in step.node.outputs:
        if value is not None:
            shape = step.trace.values[value].shape
            step.dims[value] = [step.fixed(size, "hidden width of a recurrent layer") for size in shape]
    step.done = True


def _count(step: Step, first: list[int], params: list[int], per_layer: int) -> None:
    steps = step.of("input")[:-1]
    for start in range(0, len(params), per_layer):
        for value in params[start : start + 2]:
            step.note.macs.append((1, (*steps, *step.dims[value])))
