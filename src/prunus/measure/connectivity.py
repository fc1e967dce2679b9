"""Mode connectivity: is there a barrier on the straight line between two networks? (Frankle et al. 2020, Zhou et al. 2023).

Removes: nothing.
Needs: two networks of one shape (`dense` is the other one), labelled rows; fit rows for BatchNorm.
Cost: points passes over the rows, and as many over refresh_rows.
Departures: the released code walks a Bezier curve whose bend is never trained, which is this line. Errors are shares in [0, 1].
 Its end value in evaluation adds weight decay of norms; here losses are the task's alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.core.registry import measure
from prunus.maths.connectivity import mode_connectivity, path_statistics
from prunus.measure.measured import Measured, role_facts
from prunus.measure.predict import predict
from prunus.prunables.roles import require_role
from prunus.recovery.bn_stats import bn_stats
from prunus.train.copies import copied
from prunus.train.kinds import BatchNorm


@measure(needs=("logits", "labels"), card="three-regime", pair=True)
def connectivity(
    model: nn.Module,
    data: Any,
    *,
    step: Any = None,
    batch: int = 256,
    device: str = "cpu",
    dense: nn.Module | None = None,
    points: int = 11,
    refresh: Any = None,
    refresh_rows: int = 2048,
) -> Measured:
    """`connectivity` (ends minus the farthest point, in error), `connectivity_loss`, `barrier` (highest error above the line
    between the ends), `path_error` and `path_loss` (means along the path), `distance` (L2 between the weights).

    Args:
        step: adapter of a batch; inferred from the first one.
        batch: rows at a time.
        device: where the networks run.
        dense: the other end; without one the model is compared with itself.
        points: on the line, the ends among them.
        refresh: rows of role fit on which BatchNorm statistics are re-estimated at every point; `data` themselves by default,
            which must then be of role fit. Without that every point between the ends looks like a barrier.
        refresh_rows: at most so many of them.
    """
    if points < 3:
        raise BadInput(f"a path needs a point between its ends: 3 points or more, not {points}")
    other, norms = model if dense is None else dense, data if refresh is None else refresh
    if has_norms := any(isinstance(module, BatchNorm) for module in model.modules()):
        require_role(
            norms, {"fit"}, what="a path (its BatchNorm statistics: refresh=, or rows of role fit to measure on)"
        )
    errors, losses, lengths, rows = list[float](), list[float](), [0.0], 0
    before: Tensor | None = None
    for between in line(model, other, points):
        if has_norms:
            bn_stats(between, norms, step=step, batch=batch, rows=refresh_rows, device=device)
        found = predict(between.to(device), data, step=step, batch=batch, device=device)
        errors.append(1 - float(found.correct.mean()))
        losses.append(float(found.loss.mean()))
        weights = nn.utils.parameters_to_vector(between.parameters()).detach().double()
        if before is not None:
            lengths.append(float((weights - before).norm()))
        before, rows = weights, len(found.ids)
    told = _told(errors, losses, lengths)
    facts = role_facts(data, rows) | {"points": points, **_masks(model, other)}
    return Measured({name: (value, None) for name, value in told.items()}, **facts)


def line(a: nn.Module, b: nn.Module, points: int) -> Iterator[nn.Module]:
    """One copy of the network, with the weights of one point of the line after the other, the ends first and last.

    Args:
        a, b: networks of one architecture; neither is changed.
        points: evenly spaced.

    Raises:
        BadInput: the two have other parameters or shapes.
    """
    ends = a.state_dict(), b.state_dict()
    shapes = [{name: tuple(value.shape) for name, value in end.items()} for end in ends]
    if shapes[0] != shapes[1]:
        apart = next(name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name))
        told = [side.get(apart, "missing") for side in shapes]
        raise BadInput(f"no line joins two architectures: {apart} is {told[0]} here and {told[1]} there")
    between = copied(a)
    for share in np.linspace(0, 1, points).tolist():
        between.load_state_dict({name: _mixed(value, ends[1][name], share) for name, value in ends[0].items()})
        yield between


def _mixed(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Counters and the like are not mixed: they are those of the nearer end."""
    if not a.is_floating_point():
        return a if share < 0.5 else b
    return a + share * (b.to(a.device) - a)


def _told(errors: list[float], losses: list[float], lengths: list[float]) -> dict[str, float]:
    straight = np.linspace(errors[0], errors[-1], len(errors))
    return {
        "connectivity": mode_connectivity(errors),
        "connectivity_loss": mode_connectivity(losses),
        "barrier": float((np.asarray(errors) - straight).max()),
        "path_error": path_statistics(errors, lengths).integral,
        "path_loss": path_statistics(losses, lengths).integral,
        "distance": sum(lengths),
    }


def _masks(a: nn.Module, b: nn.Module) -> dict[str, Any]:
    """Share of the weights that are zero at one end only: between copies of one pruned network there is none."""
    pairs = list(zip(a.parameters(), b.parameters()))
    apart = sum(int(((x == 0) != (y == 0)).sum()) for x, y in pairs)
    return {"zero_at_one_end": f"{apart / sum(x.numel() for x, _ in pairs):.2%}"} if apart else {}
